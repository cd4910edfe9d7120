"""`choose`: every candidate's features, out-of-fold answers, size and speed, and the one to take."""

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kerasxfer_serving.errors import KerasxferError, UsageError

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.learning_rates import LearningRateTrial, best_trial
from kerasxfer.choosing.probed import Probed, Setting
from kerasxfer.choosing.results import Choice, Result
from kerasxfer.choosing.speed import Speed, SpeedTest
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.runs.datasets import refuse_other_folders

_LONGEST = 3600


def choose(
    data: str | os.PathLike[str],
    candidates: Sequence[Candidate],
    *,
    min_rate: float | None = None,
    table: TableOptions = NOTHING_SAID,
    multi_label: bool = False,
    folds: int = 5,
    cache: str | os.PathLike[str] = "cache",
    rates: bool = True,
    duration: float = 6.0,
    try_rates: bool = False,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Compare backbones on your training images, before anything is trained.

    Each candidate's features are computed once, through the cache that training reads, and a logistic head is
    cross-validated on them. The model with this head is exported and timed from files to answers, in turns with the
    others. The recommendation is the most accurate candidate that is fast enough or, among those tied with it by the
    exact McNemar test, the cheapest.

    Args:
        data: Class folders, or a table of images and labels; if a table marks them, only its training rows.
        candidates: The candidates to compare.
        min_rate: Images per second that the exported model must reach on this machine. Defaults to `None`, any.
        table: How to read the table and, for folders too, the pattern of groups: no group is in two folds. Defaults to
            no options.
        multi_label: Whether images have any number of labels; the score is then the mean average precision.
            Defaults to `False`.
        folds: Number of folds. Defaults to `5`.
        cache: Folder of the features. Defaults to `"cache"`.
        rates: Whether to export and time the models, which needs `kerasxfer[export]`. Defaults to `True`.
        duration: Seconds to measure each rate for. Defaults to `6.0`.
        try_rates: Whether to try three learning rates on the last block of the recommended backbone. Defaults to
            `False`.
        seed: Seed of the folds. Defaults to `0`.
        say: Called with one line about each step. Defaults to silence.

    Returns:
        A `kerasxfer.choosing.results.Choice`.

    Raises:
        UsageError: An argument is out of its range.
        KerasxferError: No candidate could be loaded.

    Example:

    ```python
    from kerasxfer.choosing.candidates import Candidate

    candidates = [Candidate("DemoVGG", (32, 32)), Candidate("DemoVGG", (48, 48))]
    choice = kerasxfer.choose("pets", candidates, rates=False)
    print(choice.recommended.candidate.name, choice.command)
    ```
    """
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"`candidates` must be different, and one at least. Received: {', '.join(names)}")
    if min_rate is not None and not (rates and 0 < min_rate < float("inf")):
        raise UsageError(f"`min_rate` must be above 0, and needs `rates`. Received: min_rate={min_rate}, rates={rates}")
    if not 0 < duration <= _LONGEST:
        raise UsageError(f"`duration` must be seconds, at most {_LONGEST:,}. Received: duration={duration}")
    refuse_other_folders(Path(data))
    setting = Setting(data, table, multi_label, folds, BottleneckCache(cache, verbose=0), seed)
    left_out: dict[str, str] = {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="kerasxfer-choose-") as temporary:
        speed_test = SpeedTest(Path(temporary), duration)
        for candidate in candidates:
            images = setting.images(candidate.image_size)
            try:
                probed = Probed(setting.classifier(candidate, images), images, setting)
            except KerasxferError as error:
                left_out[candidate.name] = str(error)
                say(f"{candidate.name} is left out: {error}")
                continue
            say(f"{candidate.name}: features of {len(images.paths):,} images")
            results.append(_result(candidate, probed))
            if rates:
                say(f"{candidate.name}: export in fp32 and int8")
                probed.fit_head()
                speed_test.add(candidate.name, probed.model, images)
        if not results:
            raise KerasxferError("None of the candidates can be loaded:\n" + "\n".join(left_out.values()))
        if rates:
            say("Measure the exported models in turns")
            speeds = speed_test.measure()
            results = [replace(result, speed=speeds[result.candidate.name]) for result in results]
    choice = Choice(
        class_names=images.class_names,
        images=len(images.paths),
        results=sorted(results, key=lambda result: -result.score.value),
        left_out=left_out,
        min_rate=min_rate,
        notes=speed_test.notes,
        cores_of_others=speed_test.cores_of_others,
    )
    return _with_advice(choice, setting, try_rates, say)


def _table_words(table: TableOptions) -> list[str]:
    """The options that say the same about a table."""
    said = vars(table) | {"images": table.root}
    del said["root"]
    words = []
    for name, value in said.items():
        for each in (value,) if isinstance(value, str) else value or ():
            words += [f"--{name.replace('_', '-')}", each]
    return words


def _result(candidate: Candidate, probed: Probed) -> Result:
    _ = probed.features
    started = time.perf_counter()
    answers = probed.answers
    seconds = time.perf_counter() - started
    return Result(candidate, answers, answers.score, int(probed.model.count_params()), seconds, Speed())


def _with_advice(choice: Choice, setting: Setting, try_rates: bool, say: Callable[[str], None]) -> Choice:
    """The choice with what is known of the recommended candidate alone: its learning curve, rates and command line."""
    if choice.recommended is None:
        return choice
    candidate = choice.recommended.candidate
    images = setting.images(candidate.image_size)
    probed = Probed(setting.classifier(candidate, images), images, setting)
    say(f"{candidate.name}: learning curve")
    curve = probed.learning_curve()
    trials: list[LearningRateTrial] = []
    if try_rates:
        say(f"{candidate.name}: learning rates")
        trials = probed.try_learning_rates(say)
    return replace(choice, curve=curve, trials=trials, command=_command(candidate, setting, best_trial(trials)))


def _command(candidate: Candidate, setting: Setting, trial: LearningRateTrial | None) -> str:
    """The command line that trains a candidate from the features that are there."""
    words = ["kerasxfer", "train", os.fspath(setting.data), *candidate.options()]
    if setting.validation_split:
        words += ["--validation-split", f"{setting.validation_split}"]
    if setting.multi_label:
        words.append("--multi-label")
    words += _table_words(setting.table)
    if trial:
        words += ["--unfreeze", trial.block, "--fine-tune-learning-rate", f"{trial.learning_rate:g}"]
    return shlex.join([*words, "--cache", str(setting.cache.directory), "--out", "run"])
