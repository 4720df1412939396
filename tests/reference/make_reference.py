"""Makes the reference values beside this script again. See README.md."""
import argparse

import values  # first: it settles threads before the peers start


def main():
    parts = ("ops", "nn", "layers", "keras_layers", "preprocessing", "nets", "texts", "data")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=parts)
    chosen = parser.parse_args().parts or parts
    print(values.versions())
    if "ops" in chosen:
        import op_values
        op_values.make()
    if "nn" in chosen:
        import nn_values
        nn_values.make()
    if "layers" in chosen:
        import layer_values
        layer_values.make()
        import batch_norm_values
        batch_norm_values.make()
    if "keras_layers" in chosen:
        import keras_layer_values
        keras_layer_values.make()
    if "preprocessing" in chosen:
        import preprocessing_values
        preprocessing_values.make()
    if "nets" in chosen:
        import net_values
        net_values.make()
    if "texts" in chosen:
        import text_values
        text_values.make()
    if "data" in chosen:
        import data_values
        data_values.make()


main()
