"""What is offered to callers, and what each request is answered; no network here."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from distill.completions import BadInput, Interface, Prompt, digest
from distill.completions import Message as Turn
from distill.models import Model
from distill.served.protocol import ChatRequest, CompletionRequest, Request, Response
from experiments.serving.replies import AnsweredRequest


@dataclass(frozen=True)
class Offer:
    """A defended teacher as callers meet it.

    Args:
        name: of the model.
        model: the teacher behind its defence; it answers one request at a time.
        interface: what it releases beside the text.
        prefill: whether a caller may begin the answer.
        temperature: at which it decodes; a caller cannot choose another.
    """

    name: str
    model: Model
    interface: Interface
    prefill: bool
    temperature: float
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def chat(self, request: ChatRequest, account: str) -> Response:
        """The response to a chat.

        Args:
            request: whose last message may begin the answer.
            account: that asks.

        Raises:
            BadInput: the interface does not offer what is asked for.
        """
        messages = [Turn(one.role, one.content) for one in request.messages]
        begun = messages[-1].role == "assistant"
        if begun != bool(request.continue_final_message) or begun and request.add_generation_prompt:
            raise BadInput(
                "continue_final_message: must be true, and add_generation_prompt false, where the "
                "last message is the assistant's, and only there"
            )
        begin = messages.pop().content if begun else ""
        prompt = _prompt(messages, account, begin)
        k = (request.top_logprobs or 0) if request.logprobs else None
        return self._respond(request, prompt, k).chat()

    def complete(self, request: CompletionRequest, account: str) -> Response:
        """The response to text, or token ids, to go on from.

        Args:
            request: text or token ids.
            account: that asks.

        Raises:
            BadInput: as `chat`; or the teacher has a chat template, which plain text leaves out.
        """
        tokenizer = self.model.tokenizer
        if tokenizer is not None and tokenizer.chat_template:
            raise BadInput("prompt: this teacher reads chats; ask /v1/chat/completions")
        if request.echo:
            raise BadInput("echo: is not offered")
        text = request.prompt if isinstance(request.prompt, str) else self._text(request.prompt)
        prompt = _prompt([Turn("user", text)], account)
        return self._respond(request, prompt, request.logprobs).plain()

    def _text(self, ids: list[int]) -> str:
        """The prompt that these tokens are."""
        tokenizer: Any = self.model.tokenizer
        in_vocabulary = tokenizer is not None and max(ids, default=0) < len(tokenizer)
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False) if in_vocabulary else ""
        if not in_vocabulary or self.model.encode(Prompt("", text)) != ids:
            raise BadInput("prompt: no prompt has these tokens, as this teacher's tokenizer writes")
        return str(text)

    def _respond(self, request: Request, prompt: Prompt, k: int | None) -> AnsweredRequest:
        self._check(request, prompt, k)
        wanted = k is not None or request.prompt_logprobs is not None
        with self._lock:
            (completion,) = self.model.generate(
                [prompt],
                seed=request.seed or 0,
                interface=self.interface if wanted else Interface(),
            )
        return AnsweredRequest(request, self.name, self.model, prompt, completion, k)

    def _check(self, request: Request, prompt: Prompt, k: int | None) -> None:
        """BadInput where what is asked for is not on offer."""
        if request.model != self.name:
            raise BadInput(f"model: there is {self.name!r} alone, got {request.model[:80]!r}")
        for name, value, offered in (
            ("temperature", request.temperature, self.temperature),
            ("top_p", request.top_p, 1.0),
        ):
            if value is not None and value != offered:
                raise BadInput(f"{name}: this provider decodes at {offered:g}, got {value:g}")
        if prompt.begin and not self.prefill:
            raise BadInput("messages: this interface lets nobody begin the answer")
        if request.prompt_logprobs is not None and not prompt.begin:
            raise BadInput("prompt_logprobs: are those of an answer that was begun")
        most = max(k or 0, request.prompt_logprobs or 0)
        releases = self.interface.kind != "text" and self.model.capabilities.logprobs
        if (k is not None or request.prompt_logprobs is not None) and not releases:
            raise BadInput("logprobs: this interface releases none")
        if self.interface.kind == "top_k" and most > self.interface.k:
            raise BadInput(f"logprobs: at most {self.interface.k} a token, got {most}")


def _prompt(messages: list[Turn], account: str, begin: str = "") -> Prompt:
    """The last question, with what stands before it."""
    has_system = bool(messages) and messages[0].role == "system"
    system = messages.pop(0).content if has_system else ""
    if not messages or messages[-1].role != "user":
        raise BadInput(
            "messages: the last one, or the one before the answer's beginning, must be the user's"
        )
    question = messages.pop().content
    prompt = Prompt("", question, account, begin, system=system, history=tuple(messages))
    return replace(prompt, id=digest(prompt.conversation)[:16])
