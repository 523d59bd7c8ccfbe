import importlib.machinery
import importlib.util
import os
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vm", "run")
loader = importlib.machinery.SourceFileLoader("run", RUN)
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)


class VmTest(unittest.TestCase):
    def test_the_newest_package_of_a_version_is_taken(self):
        names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64",
                 "linux-image-6.1.0-100-cloud-amd64-dbg", "linux-image-6.1.0-99-cloud-amd64-unsigned",
                 "linux-image-6.1.0-98-amd64", "linux-image-6.12.9+deb12-cloud-amd64",
                 "linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.12-cloud-amd64"]
        self.assertEqual(run.newest_package("6.1", names), "linux-image-6.1.0-56-cloud-amd64")
        self.assertEqual(run.newest_package("6.12", names), "linux-image-6.12.117+deb12-cloud-amd64")
        self.assertIsNone(run.newest_package("6.2", names))

    def test_modules_are_loaded_behind_what_they_need(self):
        dependencies = ("kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/drivers/virtio/virtio.ko\n"
                        "kernel/fs/fuse/fuse.ko:\n"
                        "kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko\n"
                        "kernel/drivers/virtio/virtio.ko:\n")
        self.assertEqual(run.early_modules(dependencies, ["virtio_pci", "virtiofs", "built_in"]), [
            "kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_pci.ko",
            "kernel/fs/fuse/fuse.ko", "kernel/fs/fuse/virtiofs.ko"])


if __name__ == "__main__":
    unittest.main()
