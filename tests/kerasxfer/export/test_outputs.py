import keras
import numpy as np
import pytest

from kerasxfer.export.errors import ExportError
from kerasxfer.export.outputs import Output, activation_of_loss, last_activation, looks_like, read_output
from kerasxfer.layers import ClassifierHead

layers = keras.layers
SCORES = np.array([[5.0, 2.0, -3.0], [-1.0, 0.5, 4.0]])


def model_with(*last):
    return keras.Sequential([keras.Input((4,)), *last])


def functional(after):
    inputs = keras.Input((4,))
    return keras.Model(inputs, after(layers.Dense(3)(inputs)))


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ([layers.Dense(3, activation="softmax")], "softmax"),
        ([layers.Dense(1, activation="sigmoid")], "sigmoid"),
        ([layers.Dense(3)], "linear"),
        ([layers.Dense(3, activation="log_softmax")], "log_softmax"),
        ([layers.Softmax()], "softmax"),
        ([layers.Activation("softmax")], "softmax"),
        ([keras.Sequential([layers.Dense(3), layers.Activation("sigmoid")])], "sigmoid"),
        ([layers.ReLU()], None),
        # What follows the activation and only passes it on does not make scores of probabilities.
        ([layers.Dense(3, "softmax"), layers.Activation("linear", dtype="float32")], "softmax"),
        ([layers.Dense(3, "softmax"), layers.Reshape((1, 3)), layers.Flatten(), layers.Dropout(0.5)], "softmax"),
        ([layers.Dense(3), layers.Activation("linear")], "linear"),
        ([keras.Sequential([layers.Dense(3, "sigmoid"), layers.Identity()]), layers.Reshape((3,))], "sigmoid"),
    ],
)
def test_the_operation_that_decides_says_what_the_output_is(last, kind):
    assert last_activation(model_with(*last)) == kind


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (keras.ops.softmax, "softmax"),
        (keras.ops.sigmoid, "sigmoid"),
        (keras.ops.log_softmax, "log_softmax"),
        (lambda x: keras.ops.cast(keras.ops.softmax(x), "float32"), "softmax"),
        (lambda x: keras.ops.reshape(keras.ops.softmax(x), (-1, 3)), "softmax"),
        (lambda x: x * 2, None),
    ],
)
def test_operations_between_layers_count(after, kind):
    assert last_activation(functional(after)) == kind


@pytest.mark.parametrize(("classes", "activation"), [(3, "softmax"), (2, "sigmoid")])
def test_our_own_head_says_what_it_is(classes, activation):
    head = ClassifierHead(classes, activation=activation)
    assert last_activation(keras.Sequential([keras.Input((2, 2, 4)), head])) == activation


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid"),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax"),
        (keras.losses.CategoricalFocalCrossentropy(from_logits=True), "softmax"),
        (keras.losses.binary_crossentropy, "sigmoid"),
        ("sparse_categorical_crossentropy", "softmax"),
        (["binary_crossentropy"], "sigmoid"),
        ({"head": "binary_crossentropy"}, "sigmoid"),
        (["binary_crossentropy", "mse"], None),
        ("mse", None),
        (keras.losses.Hinge(), None),
        (lambda true, predicted: predicted, None),
        (None, None),
    ],
)
def test_a_loss_belongs_to_an_activation_where_it_is_known(loss, activation):
    assert activation_of_loss(loss) == activation
    if isinstance(loss, keras.losses.Loss):
        assert activation_of_loss(keras.saving.serialize_keras_object(loss)) == activation


@pytest.mark.parametrize(
    ("loss", "said", "expected"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), None, ("sigmoid", False)),
        (keras.losses.CategoricalCrossentropy(from_logits=True), None, ("softmax", False)),
        (None, None, ("softmax", True)),
        (None, "sigmoid", ("sigmoid", False)),
        (keras.losses.BinaryCrossentropy(from_logits=True), "logits", ("sigmoid", False)),
        (keras.losses.BinaryCrossentropy(from_logits=True), "softmax", ("softmax", False)),
    ],
)
def test_scores_are_read_by_what_is_said_then_by_the_loss(loss, said, expected):
    output = read_output(model_with(layers.Dense(3)), loss, SCORES, said)
    assert (output.activation, output.assumed) == expected
    assert output.raw
    assert (output.inferred is None) == (said in ("softmax", "sigmoid"))


def test_probabilities_are_left_as_they_are():
    outputs = np.array([[0.2, 0.8], [0.5, 0.5]])
    output = read_output(model_with(layers.Dense(2, "softmax")), keras.losses.BinaryCrossentropy(), outputs)
    assert output == Output("softmax")
    assert output.probabilities(outputs) is outputs


def test_what_contradicts_the_last_activation_is_refused():
    with pytest.raises(ExportError, match="`output` must be 'softmax'"):
        read_output(model_with(layers.Dense(2, "softmax")), None, np.array([[0.2, 0.8]]), "logits")


def test_scores_become_probabilities():
    softmax, sigmoid = Output("softmax", raw=True), Output("sigmoid", raw=True)
    assert softmax.probabilities(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.25, 0.75]]))
    assert sigmoid.probabilities(np.array([[np.log(3), 0.0]])) == pytest.approx(np.array([[0.75, 0.5]]))
    assert sigmoid.probabilities(SCORES)[0] == pytest.approx([0.99331, 0.88080, 0.04743], abs=1e-5)
    for output in (softmax, sigmoid):
        assert np.isfinite(output.probabilities(np.array([[1000.0, -1000.0]]))).all()


@pytest.mark.parametrize(("activation", "outputs"), [("softmax", [[0.9, 0.8]]), ("sigmoid", [[-3.0, 5.0]])])
def test_what_is_no_probability_is_refused(activation, outputs):
    with pytest.raises(ExportError, match=f"are not {activation} probabilities"):
        Output(activation).probabilities(np.array(outputs))


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [([[0.2, 0.8]], "softmax"), ([[0.9, 0.8]], "sigmoid"), ([[0.9]], "sigmoid"), ([[2.0]], "logits")],
)
def test_outputs_look_like_what_they_are(outputs, kind):
    assert looks_like(np.array(outputs)) == kind
