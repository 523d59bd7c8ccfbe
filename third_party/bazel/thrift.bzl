"""thrift_cc_library: C++ from a Thrift interface file."""

def thrift_cc_library(
        name,
        src,
        services = [],
        consts = False,
        options = [],
        includes = [],
        deps = [],
        visibility = None,
        testonly = None,
        tags = None):
    """Generates and compiles the C++ of one .thrift file.

    The headers are included by the path of the .thrift file's folder, without "gen-cpp":
    `#include "replication/link_types.h"`, `#include "replication/Link.h"`.

    Args:
      name: name of the cc_library.
      src: the .thrift file, in this package.
      services: names of all services in src. Thrift names its files after them, and Bazel has to
        know the names of an action's outputs beforehand.
      consts: whether src has a `const`. Thrift writes X_constants.* only then.
      options: further options of Thrift's C++ generator, e.g. "pure_enums=enum_class".
      includes: .thrift files that src includes, by their path from the top of the repository.
      deps: the thrift_cc_library targets of those files.
      visibility: as usual.
      testonly: as usual.
      tags: as usual.
    """
    if not src.endswith(".thrift"):
        fail("src must be a .thrift file", "src")
    stem = src[:-len(".thrift")]
    stems = [stem + "_types"] + services
    if consts:
        stems.append(stem + "_constants")
    hdrs = ["gen-cpp/%s.h" % s for s in stems]
    srcs = ["gen-cpp/%s.cpp" % s for s in stems]

    # Generated headers do not pass -Wall -Wextra in those who include them, and -Werror is on there.
    native.genrule(
        name = name + "_gen",
        srcs = [src] + includes,
        outs = hdrs + srcs,
        cmd = " && ".join([
            "/usr/bin/thrift -strict -I . --gen cpp:%s -o $(RULEDIR) $(location %s)" % (
                ",".join(["no_skeleton", "moveable_types", "include_prefix"] + options),
                src,
            ),
            "for stem in %s; do" % " ".join(stems) +
            " sed -i '1i #pragma GCC system_header' $(RULEDIR)/gen-cpp/$$stem.h; done",
        ]),
        message = "Generating C++ from Thrift",
        testonly = testonly,
        tags = tags,
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = ["-w"],
        strip_include_prefix = "gen-cpp",
        include_prefix = native.package_name(),
        deps = deps + ["//third_party:thrift"],
        testonly = testonly,
        tags = tags,
        visibility = visibility,
    )
