"""What `choose` found: a row for each candidate, and the one to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from kerasxfer_serving.files import format_bytes

from kerasxfer.choosing.answers import Answers
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.learning_curve import LearningCurve
from kerasxfer.choosing.learning_rates import LearningRateTrial
from kerasxfer.choosing.speed import Speed
from kerasxfer.estimate import Estimate

TIED = 0.05
"""Two candidates are tied where the p-value of their difference is above this."""


class Row(TypedDict):
    """A candidate in `choose.csv` and `choose.json`; `None` for what was not measured."""

    candidate: str
    backbone: str
    image_size: str
    weights: str
    score: float
    low: float
    high: float
    p: float
    verdict: str
    parameters: int
    fp32_bytes: int | None
    int8_bytes: int | None
    fp32_rate: float | None
    int8_rate: float | None
    int8_agreement: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Result:
    """One candidate, measured.

    Args:
        candidate: What was measured.
        answers: What logistic heads said of the images that they had not seen.
        score: Accuracy of these answers, or mean average precision where images have several labels.
        parameters: Number of weights, the head's included.
        seconds: Time that the heads took, once the features were there.
        speed: Of the exported model; empty where it was not measured.
    """

    candidate: Candidate
    answers: Answers
    score: Estimate
    parameters: int
    seconds: float
    speed: Speed

    def precision(self, min_rate: float | None) -> str | None:
        """The precision that reaches a rate, fp32 before int8; `None` where none does."""
        if min_rate is None:
            return "fp32"
        return next((name for name, measured in self.speed.rates.items() if measured.rate >= min_rate), None)

    @property
    def cost(self) -> float:
        """What decides between tied candidates: seconds for an image, or weights times pixels where not measured."""
        rate = self.speed.rate("fp32")
        height, width = self.candidate.image_size
        return 1 / rate if rate else float(self.parameters * height * width)


@dataclass(frozen=True, eq=False)
class Choice:
    """What came out of `kerasxfer.choose`.

    Args:
        class_names: Names of the classes.
        images: Number of images.
        results: The candidates that were measured, the best first.
        left_out: Why others were not, by name.
        min_rate: Images a second that are asked for, or `None`.
        notes: What a person should know.
        cores_of_others: Cores that other processes kept busy while rates were measured, or `None`.
        curve: Learning curve of what is recommended, or `None` where there are too few images or mistakes.
        trials: Learning rates that were tried on its last block.
        command: The command line that trains it, or `None` where nothing is recommended.
    """

    class_names: Sequence[str]
    images: int
    results: Sequence[Result]
    left_out: Mapping[str, str]
    min_rate: float | None
    notes: Sequence[str]
    cores_of_others: float | None
    curve: LearningCurve | None = None
    trials: Sequence[LearningRateTrial] = ()
    command: str | None = None

    @property
    def metric(self) -> str:
        """`"accuracy"` or `"mAP"`."""
        return self.results[0].answers.metric

    @property
    def best(self) -> Result:
        """The best of those that are fast enough; of all, where none is."""
        return next((result for result in self.results if result.precision(self.min_rate)), self.results[0])

    @property
    def tied(self) -> list[Result]:
        """The candidates that are fast enough and differ from the best of them by no more than chance may."""
        enough = [result for result in self.results if result.precision(self.min_rate)]
        return [result for result in enough if self.p(result) > TIED]

    @property
    def recommended(self) -> Result | None:
        """The cheapest of those that are tied with the best, or `None` where none is fast enough."""
        return min(self.tied, key=lambda result: result.cost, default=None)

    def p(self, result: Result) -> float:
        """How often a candidate and the best would differ this much if they were equally good."""
        return result.answers.chance_of_difference(self.best.answers)

    def verdict(self, result: Result) -> str:
        """What a candidate is beside the others: `take`, `best`, `tied`, `too slow` or nothing."""
        if result is self.recommended:
            return "take"
        if result.precision(self.min_rate) is None:
            return "too slow"
        if result is self.best:
            return "best"
        return "tied" if result in self.tied else ""

    def rows(self) -> list[Row]:
        """The table, the best candidate first."""
        return [
            {
                "candidate": result.candidate.name,
                "backbone": result.candidate.backbone,
                "image_size": result.candidate.size,
                "weights": result.candidate.weights,
                "score": result.score.value,
                "low": result.score.low,
                "high": result.score.high,
                "p": self.p(result),
                "verdict": self.verdict(result),
                "parameters": result.parameters,
                "fp32_bytes": result.speed.bytes.get("fp32"),
                "int8_bytes": result.speed.bytes.get("int8"),
                "fp32_rate": result.speed.rate("fp32"),
                "int8_rate": result.speed.rate("int8"),
                "int8_agreement": result.speed.int8_agreement,
                "seconds": result.seconds,
            }
            for result in self.results
        ]

    def shown(self) -> list[dict[str, str]]:
        """The table for people, without columns that nothing was measured for."""
        same = "same class" if self.metric == "accuracy" else "same labels"
        table = [
            {
                "candidate": row["candidate"],
                "verdict": row["verdict"],
                self.metric: f"{row['score']:.4f} ({row['low']:.3f}–{row['high']:.3f})",
                "p": f"{row['p']:.2g}",
                "weights": f"{row['parameters'] / 1e6:.1f} M",
                "fp32 file": format_bytes(row["fp32_bytes"]) if row["fp32_bytes"] else "",
                "fp32/s": f"{row['fp32_rate']:.0f}" if row["fp32_rate"] else "",
                "int8/s": f"{row['int8_rate']:.0f}" if row["int8_rate"] else "",
                same: f"{row['int8_agreement']:.1%}" if row["int8_agreement"] else "",
            }
            for row in self.rows()
        ]
        empty = {name for name in table[0] if not any(row[name] for row in table)}
        return [{name: text for name, text in row.items() if name not in empty} for row in table]

    def to_dict(self) -> dict[str, object]:
        """Everything, for `choose.json`."""
        return {
            "metric": self.metric,
            "images": self.images,
            "classes": list(self.class_names),
            "min_rate": self.min_rate,
            "candidates": self.rows(),
            "left_out": dict(self.left_out),
            "recommended": self.recommended and self.recommended.candidate.name,
            "command": self.command,
            "learning_curve": self.curve and vars(self.curve),
            "learning_rates": [vars(trial) for trial in self.trials],
            "cores_of_others": self.cores_of_others,
            "notes": list(self.notes),
        }
