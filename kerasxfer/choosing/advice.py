"""What a choice says to a person, in sentences."""

from collections.abc import Iterator

from kerasxfer.choosing.results import Choice, Result

_BUSY = 0.2


def advice(choice: Choice) -> list[str]:
    """Sentences about what to take and why, what more images would bring, and what to be careful about.

    Args:
        choice: What came out of `kerasxfer.choose`.
    """
    return [_recommendation(choice), *_more_images(choice), *_learning_rates(choice), *_cautions(choice)]


def _recommendation(choice: Choice) -> str:
    taken = choice.recommended
    if taken is None:
        fastest = max(choice.results, key=_best_rate)
        if not fastest.speed.rates:
            return f"No candidate could be exported: none is known to reach {choice.min_rate:g} images/s."
        return (
            f"No candidate reaches {choice.min_rate:g} images/s on this machine; the fastest is "
            f"{fastest.candidate.name} with {_best_rate(fastest):.0f}. Try smaller images or a smaller backbone."
        )
    sentence = f"Take {taken.candidate.name}: {_score(choice, taken)}"
    if taken is not choice.best:
        best = choice.best
        measured = best.speed.rate("fp32") and taken.speed.rate("fp32")
        cost = f"takes {best.cost / taken.cost:.1f} times as long" if measured else "is the larger"
        sentence += (
            f". {best.candidate.name} has {_score(choice, best)}, which may be chance (p = {choice.p(taken):.2g}), "
            f"and {cost}"
        )
    elif others := [result for result in choice.tied if result is not taken]:
        sentence += f". Tied with it, but no cheaper: {', '.join(result.candidate.name for result in others)}"
    if choice.min_rate and taken.precision(choice.min_rate) == "int8":
        sentence += (
            f". It reaches {choice.min_rate:g} images/s in int8 only: export it with "
            "`--precision int8 --calibration` and a folder of images"
        )
    return f"{sentence}."


def _more_images(choice: Choice) -> Iterator[str]:
    if choice.curve is not None:
        now, then = choice.curve.errors[-1], choice.curve.at_twice
        yield (
            f"With twice the images the error would go from {now:.3f} to about {then:.3f} "
            f"({0.8 * then:.3f}–{1.2 * then:.3f})."
        )


def _learning_rates(choice: Choice) -> Iterator[str]:
    if choice.trials:
        frozen, *tried = choice.trials
        best = min(tried, key=lambda trial: trial.loss)
        if best.loss < frozen.loss:
            yield (
                f"Unfreezing {best.block} at {best.learning_rate:g} lowers the loss on held-out images from "
                f"{frozen.loss:.4f} to {best.loss:.4f} in {best.epochs} epochs."
            )
        else:
            yield (
                f"Unfreezing {best.block} did not lower the loss on held-out images at any of the rates: train the "
                "head alone."
            )


def _cautions(choice: Choice) -> Iterator[str]:
    if (choice.cores_of_others or 0) > _BUSY:
        yield (
            f"Other processes kept {choice.cores_of_others:.1f} cores busy while rates were measured. The models took "
            "turns, so their order holds; a quiet machine is faster."
        )
    for name in choice.left_out:
        yield f"{name} could not be loaded, and was left out."
    yield from choice.notes


def _score(choice: Choice, result: Result) -> str:
    score = result.score
    rate = result.speed.rate("fp32")
    speed = f" at {rate:.0f} images/s" if rate else ""
    return f"{choice.metric} {score.value:.4f} ({score.low:.3f}–{score.high:.3f}){speed}"


def _best_rate(result: Result) -> float:
    return max((measured.rate for measured in result.speed.rates.values()), default=0.0)
