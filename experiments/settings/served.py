"""A teacher behind a server of the researcher's own, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.completions import BadInput, Capabilities
from distill.served.address import check_url
from distill.served.request_options import Prompts, RequestOptions, Scoring
from experiments.private import MARK
from experiments.settings.entries import Strict, Text

Place = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]


PLACE = ("url", "hosts", "concurrency", "timeout", "retries", "key_variable")
"""Settings that say where a server is and how patiently it is asked; no answer depends on them."""


class Served(Strict):
    """A teacher behind an OpenAI-compatible server; see docs/served.md for what each offers."""

    kind: Literal["served"]
    name: Text
    url: Place = Field(description="of its /v1, on this machine or on one of `hosts`")
    hosts: list[Text] = Field(description="machines of your own beside this one")
    model: Text = Field(description="as the server names it")
    revision: Annotated[str, Field(max_length=200)] = Field(
        description="which weights the name stands for; another revision is another teacher"
    )
    prompts: Prompts = Field(
        description="messages that the server renders; or text, or token ids, rendered here"
    )
    tokenizer: Place | None = Field(
        description="folder or hub name; logprobs and token ids mean nothing without"
    )
    temperature: float = Field(ge=0, le=100)
    top_p: float = Field(gt=0, le=1)
    max_new_tokens: int = Field(ge=2, le=1_000_000)
    logprobs: int = Field(description="that it releases a token, 0: none", ge=0, le=1000)
    token_ids: bool = Field(description="ask that tokens are named by their ids, as vLLM can")
    scoring: Scoring = Field(
        description="how it scores an answer that it is handed, which on-policy attacks need"
    )
    concurrency: int = Field(description="requests at once, of each worker", ge=1, le=1000)
    timeout: float = Field(description="seconds for a whole answer", gt=0, le=86_400)
    retries: int = Field(description="further tries where it fails or is busy", ge=0, le=100)
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        description="environment variable that holds its API key"
    )

    @property
    def options(self) -> RequestOptions:
        """All that its answers depend on."""
        return RequestOptions(**self.model_dump(include={*RequestOptions.__dataclass_fields__}))

    @property
    def capabilities(self) -> Capabilities:
        return self.options.capabilities

    @model_validator(mode="after")
    def _possible(self) -> Served:
        if not self.url.startswith(MARK):
            try:
                check_url(self.url, self.hosts)
            except BadInput as error:
                raise ValueError(f"url: {error}") from None
        wants = [
            name
            for name, needed in (
                ("logprobs", self.logprobs > 0),
                ("prompts=ids", self.prompts == "ids"),
                ("scoring", self.scoring != "none"),
            )
            if needed
        ]
        if wants and self.tokenizer is None:
            raise ValueError(f"tokenizer must be named for {', '.join(wants)}")
        if self.scoring != "none" and not self.logprobs:
            raise ValueError("logprobs must be above 0 for scoring")
        if self.scoring != "none" and self.prompts not in _SCORED[self.scoring]:
            raise ValueError(
                f"prompts must be {' or '.join(_SCORED[self.scoring])} for scoring={self.scoring}, "
                f"got {self.prompts}"
            )
        return self


_SCORED = {"prompt_logprobs": ("chat", "ids"), "echo": ("ids",)}
