"""Existing Keras code (own model, tf.data, compile, fit), and the three lines that change."""

import keras
from _common import arguments

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger
from kerasxfer.demo.backbone import DemoVGG

args = arguments(__doc__, epochs=3)
size = (args.image_size, args.image_size)
load = keras.utils.image_dataset_from_directory
train = load(args.data, validation_split=0.2, subset="training", seed=1, image_size=size)
validation = load(args.data, validation_split=0.2, subset="validation", seed=1, image_size=size, shuffle=False)

base = (
    DemoVGG(input_shape=(*size, 3))
    if args.quick
    else keras.applications.VGG16(include_top=False, weights=args.weights, input_shape=(*size, 3))
)
base.trainable = False
inputs = keras.Input((*size, 3))
x = (
    keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    if args.quick
    else keras.applications.vgg16.preprocess_input(inputs)
)
x = keras.layers.GlobalAveragePooling2D()(base(x))
outputs = keras.layers.Dense(len(train.class_names), activation="softmax")(keras.layers.Dropout(0.3)(x))
model = keras.Model(inputs, outputs)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

# Before: model.fit(train, validation_data=validation, epochs=3), then base.trainable = True, compile and fit again.
stages = [Stage(epochs=args.epochs), Stage("block5", epochs=args.epochs, learning_rate=1e-5)]
callbacks = [SmoothedMetricsLogger(), ProgressiveUnfreezing(stages)]
history = model.fit(train, validation_data=validation, epochs=2 * args.epochs, callbacks=callbacks)

print({key: [round(value, 3) for value in values] for key, values in history.history.items() if "accuracy" in key})
