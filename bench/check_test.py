#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The comparison of bench/check.py, without a measurement."""
import json
import os
import tempfile
import unittest

import check


class Compare(unittest.TestCase):
    def test_a_loss_of_11_percent_fails_and_is_named_with_its_figures(self):
        failures = check.compare({"step": 1110, "other": 500}, {"step": 1000, "other": 500})
        self.assertEqual(failures, ["step: found 1110 instructions, recorded 1000, limit 1100 (+11.0%)"])

    def test_a_loss_of_10_percent_passes(self):
        self.assertEqual(check.compare({"step": 1100}, {"step": 1000}), [])

    def test_a_gain_passes(self):
        self.assertEqual(check.compare({"step": 400}, {"step": 1000}), [])

    def test_a_case_that_is_missing_on_either_side_fails(self):
        failures = check.compare({"new": 1}, {"old": 1})
        self.assertEqual([f.split(",")[0] for f in failures], ["old: recorded", "new: measured"])


class Record(unittest.TestCase):
    def refused(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "recorded.json")
            with open(path, "w") as f:
                f.write(text)
            with self.assertRaises(check.Broken) as caught:
                check.read_recorded(path)
        self.assertIn("expected what `bench/check.py --record` writes", str(caught.exception))
        return str(caught.exception)

    def test_a_damaged_record_is_refused_with_what_is_wrong(self):
        self.assertIn("cannot be read", self.refused('{"compiler": "GNU 12", "instr'))
        self.assertIn("names no compiler", self.refused('{"instructions": {"step": 1}}'))
        self.assertIn("names no compiler", self.refused("[]"))
        self.assertIn("has no instructions", self.refused('{"compiler": "GNU 12", "instructions": {}}'))
        self.assertIn('case "step" has \'many\'',
                      self.refused('{"compiler": "GNU 12", "instructions": {"step": "many"}}'))
        self.assertIn('case "step" has -1', self.refused('{"compiler": "GNU 12", "instructions": {"step": -1}}'))

    def test_a_missing_record_is_refused(self):
        with self.assertRaises(check.Broken):
            check.read_recorded(os.path.join("no", "such", "folder", "recorded.json"))

    def test_the_record_of_this_tree_has_every_case(self):
        self.assertEqual(set(check.read_recorded(check.RECORDED)["instructions"]), set(check.CASES))


if __name__ == "__main__":
    unittest.main()
