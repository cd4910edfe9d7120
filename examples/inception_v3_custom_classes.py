"""InceptionV3 for classes of your own: average pooling, dropout, softmax; later the upper blocks; then predict."""

import keras
from _common import arguments, classifier, folders, result
from kerasxfer_serving import Predictor

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing

args = arguments(__doc__, backbone="InceptionV3", epochs=5)
train, validation = folders(args)
model = classifier(args, train.class_names, head="average", dropout=0.4)
model.compile(keras.optimizers.Adam(args.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])

stages = [
    Stage(epochs=args.epochs, name="head"),
    Stage(2, epochs=args.epochs, learning_rate="0.01x", restore_best=True, monitor="val_accuracy", name="upper blocks"),
]
kerasxfer.BottleneckCache(args.out / "cache").fit(
    model,
    train,
    validation_data=validation,
    epochs=2 * args.epochs,
    shuffle=False,
    callbacks=[ProgressiveUnfreezing(stages)],
)
model.save(args.out / "model.keras")
print(result(f"{args.backbone} on {', '.join(train.class_names)}", model, validation, seconds=0))

kerasxfer.export_onnx(model, args.out / "model.onnx", class_names=train.class_names)
with Predictor(args.out / "model.onnx") as predictor:
    picture = validation.root / validation.paths[0]
    answer = predictor.predict([picture])
print(f"{validation.paths[0]}: {answer.labels[0]} with probability {answer.probabilities[0].max():.3f}")
