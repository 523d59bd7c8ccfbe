"""Stand-ins for the repositories that Bazel wants to download before it builds any C++.

Bazel 4.2.3's own tools load @rules_cc and @rules_java, and every test depends on
@remote_coverage_tools. All three are written here by hand, so that a build needs no network.
"""

def _forward(names):
    return "".join(["def {0}(**kwargs):\n    native.{0}(**kwargs)\n\n".format(n) for n in names])

def _rules_cc_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"rules_cc\")\n")
    ctx.file("BUILD.bazel", "")
    ctx.file("cc/BUILD.bazel", "")
    ctx.file("cc/defs.bzl", _forward([
        "cc_binary",
        "cc_import",
        "cc_library",
        "cc_proto_library",
        "cc_test",
        "cc_toolchain",
        "cc_toolchain_suite",
        "fdo_prefetch_hints",
        "fdo_profile",
        "objc_import",
        "objc_library",
    ]))

def _rules_java_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"rules_java\")\n")
    ctx.file("BUILD.bazel", "")
    ctx.file("java/BUILD.bazel", "")
    ctx.file("java/defs.bzl", _forward([
        "java_binary",
        "java_import",
        "java_library",
        "java_package_configuration",
        "java_plugin",
        "java_runtime",
        "java_test",
        "java_toolchain",
    ]))

# Tests depend on these two labels even when nobody asks for coverage.
def _remote_coverage_tools_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"remote_coverage_tools\")\n")
    ctx.file("none.sh", "#!/bin/sh\necho 'coverage is not supported by this build' >&2\nexit 1\n")
    ctx.file("BUILD.bazel", """
[sh_binary(
    name = name,
    srcs = ["none.sh"],
    visibility = ["//visibility:public"],
) for name in ["coverage_report_generator", "lcov_merger"]]
""")

_rules_cc = repository_rule(implementation = _rules_cc_impl, local = True)
_rules_java = repository_rule(implementation = _rules_java_impl, local = True)
_remote_coverage_tools = repository_rule(implementation = _remote_coverage_tools_impl, local = True)

def offline_repositories():
    _rules_cc(name = "rules_cc")
    _rules_java(name = "rules_java")
    _remote_coverage_tools(name = "remote_coverage_tools")
