"""Existing Keras code (own model, tf.data, compile, fit) with the three lines that change."""

import keras
from _common import arguments

from kerasxfer.backbones.demo_vgg import DemoVGG
from kerasxfer.callbacks import ProgressiveUnfreezing  # 1: import it

args = arguments(__doc__, epochs=5, head="average", dropout=0.3)
size, load = (args.image_size, args.image_size), keras.utils.image_dataset_from_directory
split = {"validation_split": 0.2, "seed": args.seed, "image_size": size, "batch_size": args.batch_size}
train = load(args.data, subset="training", **split)
validation = load(args.data, subset="validation", shuffle=False, **split)

if args.quick:  # a stand-in that needs no download
    base, preprocess = DemoVGG(input_shape=(*size, 3)), keras.applications.mobilenet_v2.preprocess_input
else:
    base = keras.applications.VGG16(include_top=False, weights=args.weights, input_shape=(*size, 3))
    preprocess = keras.applications.vgg16.preprocess_input
base.trainable = False
inputs = keras.Input((*size, 3))
x = keras.layers.GlobalAveragePooling2D()(base(preprocess(inputs)))
x = keras.layers.Dropout(args.dropout)(x)
model = keras.Model(inputs, keras.layers.Dense(len(train.class_names), activation="softmax")(x))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

# 2: say what to unfreeze, in place of `base.trainable = True` and a second `compile` and `fit`
unfreezing = ProgressiveUnfreezing.by_block(model, count=2, head_epochs=args.epochs, epochs=args.epochs)
history = model.fit(
    train,
    validation_data=validation,
    epochs=3 * args.epochs,  # once for the head, once for each of the two blocks
    callbacks=[unfreezing],  # 3: pass it on
)

for epoch, accuracy in enumerate(history.history["val_accuracy"], 1):
    print(f"epoch {epoch}: stage {history.history['stage'][epoch - 1]:.0f}, validation accuracy {accuracy:.3f}")
