import json
import os
import subprocess
import sys
import tempfile
import unittest

COUNT_TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "count_tests.py")

PASS = '<testcase name="a" status="run"/>'
FAIL = '<testcase name="b" status="run"><failure message="x"/></testcase>'
ERROR = '<testcase name="c" status="run"><error message="exited with 3"/></testcase>'
SKIP = '<testcase name="d" status="run"><skipped message="x"/></testcase>'
DISABLED = '<testcase name="e" status="notrun"/>'


class CountTestsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.events = []
        self.results = 0

    def target(self, label, tags=()):
        self.events.append({"id": {"targetConfigured": {"label": label}},
                            "configured": {"targetKind": "cc_test rule", "testSize": "SMALL", "tag": list(tags)}})

    def result(self, label, status, cases=None, shard=1, attempt=1):
        """`cases` is the inside of test.xml; without, the test leaves no such file."""
        outputs = []
        self.results += 1
        if cases is not None:
            path = os.path.join(self.folder.name, f"{self.results} test.xml")
            with open(path, "w", encoding="utf-8") as xml:
                xml.write(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
            outputs = [{"name": "test.xml", "uri": "file://" + path.replace(" ", "%20")}]
        self.events.append({
            "id": {"testResult": {"label": label, "run": 1, "shard": shard, "attempt": attempt}},
            "testResult": {"status": status, "testActionOutput": outputs}})

    def count(self, bazel_status=0, before=()):
        path = os.path.join(self.folder.name, "events.json")
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(event) + "\n" for event in self.events)
        run = subprocess.run([sys.executable, COUNT_TESTS, *before, path, str(bazel_status)],
                             stdout=subprocess.PIPE, text=True, check=False)
        return run.stdout.splitlines()[-1], run.returncode

    def test_sums_cases_over_targets_and_shards(self):
        self.result("//a:a", "PASSED", PASS + PASS, shard=1)
        self.result("//a:a", "PASSED", PASS, shard=2)
        self.result("//b:b", "PASSED", PASS)
        self.assertEqual(self.count(), ("4 passed, 0 failed", 0))

    def test_failed_and_erroneous_cases_fail(self):
        self.result("//a:a", "FAILED", PASS + FAIL + ERROR)
        self.assertEqual(self.count(3), ("1 passed, 2 failed", 3))

    def test_several_runs_are_added_up_and_the_first_failure_is_the_status(self):
        self.result("//a:a", "PASSED", PASS + PASS)
        path = os.path.join(self.folder.name, "first.json")
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(event) + "\n" for event in self.events)
        self.events.clear()
        self.result("//b:b", "FAILED", PASS + FAIL)
        self.assertEqual(self.count(3, [path, "0"]), ("3 passed, 1 failed", 3))
        self.events.clear()
        self.assertEqual(self.count(0, [path, "0"]), ("2 passed, 0 failed", 1), "nothing ran in the second")

    def test_what_did_not_run_is_not_counted(self):
        self.result("//a:a", "PASSED", PASS + SKIP + DISABLED)
        self.assertEqual(self.count(), ("1 passed, 0 failed", 0))

    def test_failing_after_the_last_case_is_a_failure(self):
        self.result("//a:a", "FAILED", PASS + PASS)
        self.assertEqual(self.count(3), ("2 passed, 1 failed", 3))

    def test_without_xml_a_target_is_one_case(self):
        self.result("//a:a", "PASSED")
        self.result("//b:b", "TIMEOUT")
        self.assertEqual(self.count(3), ("1 passed, 1 failed", 3))

    def test_only_the_last_attempt_counts(self):
        self.result("//a:a", "FAILED", FAIL, attempt=1)
        self.result("//a:a", "PASSED", PASS, attempt=2)
        self.assertEqual(self.count(), ("1 passed, 0 failed", 0))

    def test_a_target_that_was_cut_off_failed(self):
        self.target("//a:a")
        self.result("//a:a", "PASSED", PASS)
        self.target("//b:b")
        self.events.append({"id": {"testResult": {"label": "//b:b", "run": 1, "shard": 1, "attempt": 1}},
                            "aborted": {"reason": "USER_INTERRUPTED"}})
        self.assertEqual(self.count(8), ("1 passed, 1 failed", 8))

    def test_a_target_that_did_not_build_failed(self):
        self.target("//a:a")
        self.target("//b:b")
        self.result("//a:a", "PASSED", PASS)
        self.assertEqual(self.count(1), ("1 passed, 1 failed", 1))

    def test_only_what_is_meant_to_be_is_left_out(self):
        self.result("//a:a", "PASSED", PASS)
        self.target("//b:b", ["soak", "local"])
        self.assertEqual(self.count(), ("1 passed, 0 failed", 0))
        self.assertEqual(self.count(before=["--all-but=soak"]), ("1 passed, 0 failed", 0))
        self.target("//c:c", ["local"])
        self.assertEqual(self.count(), ("1 passed, 0 failed", 0))
        self.assertEqual(self.count(before=["--all-but=soak"]), ("1 passed, 1 failed", 1))

    def test_nothing_ran_is_no_success(self):
        self.assertEqual(self.count(), ("0 passed, 0 failed", 1))
        self.result("//a:a", "PASSED", SKIP)
        self.assertEqual(self.count(), ("0 passed, 0 failed", 1))

    def test_bazels_own_failure_is_kept(self):
        self.result("//a:a", "PASSED", PASS)
        self.assertEqual(self.count(1), ("1 passed, 0 failed", 1))


if __name__ == "__main__":
    unittest.main()
