"""Counts the test cases of one or more `bazel test`: count_tests.py [--all-but=TAG] (EVENTS_JSON BAZEL_STATUS)...

--all-but: in the first run, a test that a filter has left out and that has no such tag counts as failed.

Prints "N passed, N failed", in sum, and exits with 0 only if Bazel was content, something ran in each run
and nothing failed. A case is a test case of a test.xml (one per shard); a test that leaves none is one case.
"""

import collections
import json
import os
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


def cases_of_xml(path):
    """(passed, failed, skipped) of a test.xml, or None if there is none to read."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.get("status", "run") != "run" or case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def path_of(output):
    uri = urllib.parse.urlparse(output.get("uri", ""))
    return urllib.parse.unquote(uri.path) if uri.scheme == "file" else ""


def read_events(path):
    """The last attempt of each (label, run, shard); the tests with their tags; and those that ran."""
    results = {}
    tests = {}
    ran = set()
    with open(path, encoding="utf-8") as events:
        for line in events:
            event = json.loads(line)
            identity = event.get("id", {})
            # Of a test that was cut off, "aborted" stands in the place of its result.
            if "testResult" in identity and "testResult" in event:
                key = identity["testResult"]
                results[key["label"], key.get("run", 1), key.get("shard", 1)] = event["testResult"]
                ran.add(key["label"])
            elif "targetConfigured" in identity and "testSize" in event.get("configured", {}):
                tests[identity["targetConfigured"]["label"]] = set(event["configured"].get("tag", []))
            elif "targetCompleted" in identity and "aborted" in event:
                # Left out by a filter or a missing platform, rather than broken.
                if event["aborted"].get("reason") == "SKIPPED":
                    tests.pop(identity["targetCompleted"]["label"], None)
    return results, tests, ran


def count_run(events, bazel_status, all_but=None):
    """The cases of one run, and its exit status."""
    total = collections.Counter()
    if not os.path.exists(events) or os.path.getsize(events) == 0:
        return total, bazel_status or 1

    results, tests, ran = read_events(events)
    for (label, _, _), result in sorted(results.items()):
        good = result.get("status") in ("PASSED", "FLAKY")
        xml = [o for o in result.get("testActionOutput", []) if o.get("name") == "test.xml"]
        counted = cases_of_xml(path_of(xml[0])) if xml else None
        if counted is None:
            counted = (1, 0, 0) if good else (0, 1, 0)
        passed, failed, skipped = counted
        if not good and failed == 0:
            failed = 1  # Every case passed, and then something went wrong: a leak, a crash at exit.
        total.update(passed=passed, failed=failed, skipped=skipped)

    # What did not build did not pass.
    left_out = 0
    for label in sorted(tests.keys() - ran):
        if bazel_status not in (0, 4) or (all_but is not None and all_but not in tests[label]):
            print(f"did not run: {label}")
            total["failed"] += 1
        else:
            left_out += 1
    if left_out:
        print(f"left out by a filter: {left_out} targets")

    if total["passed"] + total["failed"] == 0:
        print("no test ran")
    if bazel_status != 0:
        return total, bazel_status
    return total, 0 if total["failed"] == 0 and total["passed"] > 0 else 1


def main():
    total = collections.Counter()
    worst = 0
    arguments = sys.argv[1:]
    all_but = None
    if arguments and arguments[0].startswith("--all-but="):
        all_but = arguments.pop(0).removeprefix("--all-but=")
    for events, bazel_status in zip(arguments[0::2], arguments[1::2]):
        counted, status = count_run(events, int(bazel_status), all_but)
        all_but = None
        total.update(counted)
        worst = worst or status
    if total["skipped"]:
        print(f"skipped themselves or disabled: {total['skipped']}")
    print(f"{total['passed']} passed, {total['failed']} failed", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
