"""A snippet for a script with a compiled Keras model: stages inside one fit, safe to kill and restart."""

import keras
from _common import arguments, folders

from kerasxfer import Stage, image_classifier, layer_groups
from kerasxfer.callbacks import ProgressiveUnfreezing, SetEpoch

# Stands for your own script up to `model.compile`; the data may come from anywhere.
args = arguments(__doc__, epochs=3, rate=1e-3)
train, validation = folders(args)
model = image_classifier(args.backbone, train.class_names, train.image_size, weights=args.weights, dropout=0.3)
model.compile(keras.optimizers.Adam(args.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])

# 8< ----- the snippet
print(layer_groups(model))  # the names to choose from

unfreezing = ProgressiveUnfreezing(
    [
        Stage(epochs=args.epochs),  # the head alone, at the compiled rate
        Stage("block5", epochs=2 * args.epochs, patience=3, learning_rate="0.1x", warmup=0.5, restore_best=True),
        Stage("block4", epochs=args.epochs, learning_rate="0.1x", layer_decay=0.5),
    ]
)
unfreezing.plan(model)  # what each stage trains, how, at which cost; nothing is trained yet

history = model.fit(
    train,
    validation_data=validation,
    epochs=4 * args.epochs,  # room for the longest way through the stages
    shuffle=False,  # the data set shuffles by itself, the same way in a run that goes on
    callbacks=[SetEpoch(train), unfreezing, keras.callbacks.BackupAndRestore(args.out / "backup")],
)
# 8< -----

print({key: [round(value, 4) for value in history.history[key]] for key in ("stage", "learning_rate", "val_accuracy")})
