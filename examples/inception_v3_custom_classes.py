"""InceptionV3 for classes of your own: average pooling, dropout, softmax; later the upper blocks; then predict."""

import time

from _common import Result, arguments, classifier, folders
from kerasxfer_serving import Predictor

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing

args = arguments(__doc__, backbone="InceptionV3", head="average", dropout=0.4, epochs=5, unfreeze="2")
train, validation = folders(args)
model = classifier(args, train.class_names, activation="softmax")

stages = [
    Stage(epochs=args.epochs, name="head"),
    Stage(args.unfreeze, epochs=args.epochs, learning_rate=args.fine_tune_rate, name="upper blocks"),
]
start = time.perf_counter()
history = kerasxfer.BottleneckCache(args.out / "cache").fit(
    model,
    train,
    validation_data=validation,
    epochs=2 * args.epochs,
    shuffle=False,
    callbacks=[ProgressiveUnfreezing(stages)],
)
name = f"{args.backbone} on {', '.join(train.class_names)}"
print(Result.of(name, model, history, train, validation, time.perf_counter() - start))
kerasxfer.plot_history(history, args.out / "custom-classes.png", title=name)
model.save(args.out / "model.keras")

kerasxfer.export_onnx(model, args.out / "model.onnx", class_names=train.class_names)
with Predictor(args.out / "model.onnx") as predictor:
    answer = predictor.predict([validation.root / validation.paths[0]])
print(f"{validation.paths[0]}: {answer.labels[0]} with probability {answer.probabilities[0].max():.3f}")
print(f"Left in {args.out}: model.keras, model.onnx, custom-classes.png")
