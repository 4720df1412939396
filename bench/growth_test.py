#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of bench/growth.py, without a measurement."""
import unittest

import growth


class Arithmetic(unittest.TestCase):
    def test_multiply_adds_of_resnet_20_are_those_of_the_paper(self):
        # He et al. 2016 and later counts: 40.8 M to 41 M with identity shortcuts; two projections add 0.26 M.
        self.assertAlmostEqual(growth.multiply_adds() / 1e6, 40.8, delta=0.5)
        self.assertEqual(growth.multiply_adds(batch=3), 3 * growth.multiply_adds())

    def test_six_more_layers_add_the_same_work_at_any_depth(self):
        step = lambda d: growth.multiply_adds(depth=d + 6) - growth.multiply_adds(depth=d)
        self.assertEqual(step(8), step(104))

    def test_twice_the_channels_are_nearly_four_times_the_work(self):
        self.assertAlmostEqual(growth.multiply_adds(width=8) / growth.multiply_adds(width=4), 4, delta=0.05)

    def test_linear_time_grows_as_the_work(self):
        self.assertEqual(growth.growths([1, 2, 4], [10, 20, 40]), [1, 1])
        self.assertAlmostEqual(growth.exponent([1, 2, 4], [10, 20, 40]), 1)

    def test_quadratic_time_is_a_surprise_that_is_named(self):
        self.assertAlmostEqual(growth.exponent([1, 4, 16], [1, 2, 4]), 2)
        self.assertEqual(growth.surprises([8, 16], [1, 4], [1, 2]), ["8 to 16: 2.00"])
        self.assertEqual(growth.surprises([8, 16], [1, 2.2], [1, 2]), [])

    def test_two_threads_at_the_same_time_as_one_are_a_surprise(self):
        self.assertEqual(growth.surprises([1, 2], [10, 10], [1, 1 / 2]), ["1 to 2: 2.00"])

    def test_the_page_has_a_row_a_point_and_the_ratio_to_the_best_peer(self):
        axis = next(a for a in growth.AXES if a.name == "depth")
        n = len(axis.points)
        text = growth.page({"machine": "m", "threads": 2, "rounds": 1, "axes": {
            "depth": {"evenflow": [1.0] * n, "torch": [4.0] * n, "tf": [2.0] * n}}})
        self.assertIn("| 110 | 1 | 4 | 2 | 0.50 | ", text)
        self.assertIn("No surprise.", text)


if __name__ == "__main__":
    unittest.main()
