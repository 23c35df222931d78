"""Questions that take several turns: the one loop in which a model is asked, and what it called for
is answered, for exams and for whoever buys answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.completions import BadInput, Completion, Interface, Prompt
from distill.models import Model
from distill.tool_calls import only_defined
from experiments.tasks import Task, transcript

Episode = list[Completion]
"""The completions of one question, a turn each; most tasks have one turn."""


def play(
    task: Task, model: Model, prompts: Sequence[Prompt], *, seed: int, interface: Interface
) -> list[Episode]:
    """Ask every question to its end, those that are still open together.

    The model, with its defence, answers each turn by itself. The program of whoever asks, an honest
    user or one who collects answers, runs the calls that it defined (`executed`); what the task
    replies to them is the next turn's prompt, with what was run as what was said before. What is
    returned is what the model said. Where the model's context has no room for the next prompt, the
    conversation ends there, cut off.

    Args:
        task: whose replies make the next turn.
        model: that answers.
        prompts: one a question.
        seed: of what is drawn.
        interface: what is released beside the texts.
    """
    episodes: list[Episode] = [[] for _ in prompts]
    waiting = dict(enumerate(prompts))
    for turn in range(1, task.turns + 1):
        answers = model.generate(list(waiting.values()), seed=seed, interface=interface)
        replies: dict[int, Prompt] = {}
        for (place, prompt), answer in zip(waiting.items(), answers, strict=True):
            ran = executed(task, answer)
            reply = task.reply(prompt, ran) if turn < task.turns else None
            if reply is not None and has_room(model, reply):
                replies[place] = reply
            elif reply is not None:
                answer = replace(answer, finished=False)
            episodes[place].append(answer)
        waiting = replies
        if not waiting:
            break
    return episodes


def has_room(model: Model, prompt: Prompt) -> bool:
    """Whether a model's context has room for a turn; of a model behind a server nobody knows, and
    it says so itself.

    Args:
        model: that is to answer.
        prompt: with the history of its conversation.
    """
    if model.tokenizer is None:
        return True
    try:
        model.encode(prompt)
    except BadInput:
        return False
    return True


def joined(episode: Episode) -> Completion:
    """An episode as one completion of its first prompt: its transcript, and means over tokens of
    what was measured.

    Args:
        episode: its turns, at least one.
    """
    first, *later = episode
    if not later:
        return first
    sizes = [len(turn.token_ids) + turn.finished for turn in episode]

    def mean(values: Sequence[float]) -> float:
        weighted = (value * size for value, size in zip(values, sizes, strict=True))
        return sum(weighted) / max(sum(sizes), 1)

    return replace(
        first,
        text=transcript([turn.text for turn in episode]),
        token_ids=tuple(token for turn in episode for token in turn.token_ids),
        finished=all(turn.finished for turn in episode),
        logprobs=None,
        passes=mean([turn.passes for turn in episode]),
        l1=mean([turn.l1 for turn in episode]),
        kl=mean([turn.kl for turn in episode]),
        flips=mean([turn.flips for turn in episode]),
    )


def executed(task: Task, completion: Completion) -> Completion:
    """What the program of whoever asks runs of a completion, and sends back as what was said.

    The program wrote the request and knows which functions it defined. Calls of others have nothing
    that could run, and it drops them; where no other call is left, the completion stays as it is, a
    mistake that is seen.

    Args:
        task: that defines what can be called.
        completion: as a model said it.
    """
    text = only_defined(completion.text, task.format, task.tools, completion.finished)
    if text == completion.text:
        return completion
    return replace(completion, text=text, token_ids=(), logprobs=None)


def as_run(task: Task, episode: Episode) -> Completion:
    """An episode as one completion whose text is what an honest user's program ran of it. What was
    measured is of all that was said.

    Teachers are graded on this, as a call that their user's program drops does the user no harm. A
    student is graded on all that it says: its exam asks what it learned, and a call of what does
    not exist is learned. Whoever means to drop such calls drops them before (`clean/known_tools`).

    Args:
        task: that defines what can be called.
        episode: its turns, at least one.
    """
    ran = joined([executed(task, turn) for turn in episode])
    return replace(joined(episode), text=ran.text)


def prompts_sent(prompts: Sequence[Prompt], episodes: Sequence[Episode]) -> list[Prompt]:
    """Every prompt as it was sent, episode after episode.

    Args:
        prompts: the first of each episode.
        episodes: in the same order.
    """
    pairs = zip(prompts, episodes, strict=True)
    return [
        sent
        for prompt, (_, *later) in pairs
        for sent in (prompt, *(turn.question for turn in later))
    ]


def flat(episodes: Sequence[Episode]) -> list[Completion]:
    """The completions of all turns, episode after episode.

    Args:
        episodes: in their order.
    """
    return [turn for episode in episodes for turn in episode]
