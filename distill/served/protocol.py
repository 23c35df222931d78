"""What crosses between a model server and its caller: requests and responses of OpenAI's protocol.

Both ways use it: `distill.served` asks, `experiments/serving` answers. A request is strict; of a
response only what is used is read, as every server adds words of its own. `top_logprobs`,
`return_tokens_as_token_ids`, `prompt_logprobs`, `continue_final_message` and `prompt_token_ids`
beyond OpenAI's are vLLM's words, `id` beside a token is llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from distill.completions import BadInput

MOST_TOKENS = 1_000_000
TOKEN_ID = "token_id:"
"""What stands before a token's id where tokens are released as ids."""

Nats = Annotated[float, Field(le=1e-3, ge=-1e9, allow_inf_nan=False)]
"""A logprob; rounding may lift it above 0."""
TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class Request(BaseModel):
    """What both endpoints take; nothing else, so that no word of a caller is ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: StrictStr
    max_tokens: int = Field(ge=1, le=MOST_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: StrictInt | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None
    return_tokens_as_token_ids: bool | None = None
    prompt_logprobs: int | None = Field(default=None, ge=0, le=1000)


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Annotated[str, Field(pattern="^[a-z_]{1,40}$")]
    content: StrictStr


class ChatRequest(Request):
    """Of `/v1/chat/completions`. With `continue_final_message`, the last turn is the beginning of
    the answer.
    """

    messages: list[Message] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=1000)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class CompletionRequest(Request):
    """Of `/v1/completions`: text, or token ids, to go on from."""

    prompt: StrictStr | list[TokenId]
    logprobs: int | None = Field(default=None, ge=0, le=1000)
    echo: bool | None = None


class Reply(BaseModel):
    """A part of a response; what else a server says is left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Alternative(Reply):
    """A token that might have been said: its text, or `token_id:7`."""

    token: StrictStr
    logprob: Nats
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None
    id: TokenId | None = None


class Position(Alternative):
    """The token that was said at a position, and the likeliest ones."""

    top_logprobs: list[Alternative] = []


class PromptToken(Reply):
    """What the logprob of one token of the prompt is, given those before it."""

    logprob: Nats


PromptPositions = list[dict[str, PromptToken] | None]
"""For each token of a prompt the logprobs by token id, its own among them; None where none are
released, as of the first.
"""


class Logprobs(Reply):
    """As chat has them in `content`, or as `/v1/completions` does in lists beside each other."""

    content: list[Position] | None = None
    tokens: list[StrictStr] | None = None
    token_logprobs: list[Nats | None] | None = None
    top_logprobs: list[dict[str, Nats] | None] | None = None

    @classmethod
    def lists(cls, positions: Sequence[Position]) -> Logprobs:
        """As `/v1/completions` has them.

        Args:
            positions: a token each, with its alternatives.
        """
        return cls(
            tokens=[one.token for one in positions],
            token_logprobs=[one.logprob for one in positions],
            top_logprobs=[
                {top.token: top.logprob for top in one.top_logprobs} for one in positions
            ],
        )

    def positions(self) -> list[Position | None]:
        """One a token; None where nothing is released, as of the first token of an echo.

        Raises:
            BadInput: the lists are not of one length.
        """
        if self.content is not None:
            return [*self.content]
        tokens, values = self.tokens or [], self.token_logprobs or []
        tops = self.top_logprobs or [{}] * len(tokens)
        if not len(tokens) == len(values) == len(tops):
            raise BadInput(
                f"logprobs of {len(tokens)} tokens: {len(values)} values, {len(tops)} rows"
            )
        return [
            None
            if value is None
            else Position(
                token=token,
                logprob=value,
                top_logprobs=[Alternative(token=t, logprob=v) for t, v in (top or {}).items()],
            )
            for token, value, top in zip(tokens, values, tops, strict=True)
        ]


class ReplyMessage(Reply):
    """What was said in a chat; a server may take the reasoning apart."""

    content: StrictStr | None = None
    reasoning_content: StrictStr | None = None
    reasoning: StrictStr | None = None


class Choice(Reply):
    """An answer: `message` of a chat, `text` of a completion."""

    index: int = 0
    message: ReplyMessage | None = None
    text: StrictStr | None = None
    finish_reason: StrictStr | None = None
    logprobs: Logprobs | None = None
    prompt_logprobs: PromptPositions | None = None
    prompt_token_ids: list[TokenId] | None = None


class Usage(Reply):
    """Tokens that were read and said."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class Response(Reply):
    """A response of either endpoint."""

    model: StrictStr | None = None
    choices: list[Choice]
    usage: Usage | None = None
    prompt_logprobs: PromptPositions | None = None
    prompt_token_ids: list[TokenId] | None = None


class ModelCard(Reply):
    id: StrictStr


class Models(Reply):
    """What a server says that it has."""

    data: list[ModelCard]


T = TypeVar("T", bound=BaseModel)


def parse(kind: type[T], data: bytes, where: str) -> T:
    """JSON as a request or a response.

    Args:
        kind: of message.
        data: JSON in UTF-8, from outside.
        where: the place that an error begins with.

    Raises:
        BadInput: beginning with `where`, the first thing that is wrong with it.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = " ".join(first["msg"].split())
        beginning = " ".join(data[:120].decode("utf-8", "replace").split())
        raise BadInput(
            f"{where}: {f'{place}: ' if place else ''}{message} (it begins {beginning!r})"
        ) from None


def encode(message: BaseModel) -> bytes:
    """The JSON of a request or a response, without what was not said."""
    return message.model_dump_json(exclude_none=True).encode()
