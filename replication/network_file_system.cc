#include "replication/network_file_system.h"

#include <linux/magic.h>

namespace understudy::replication {

const char* NetworkFileSystem(uint64_t type) {
  // f_type is signed, and of 32 bits on some systems: some of these are negative there.
  switch (type & 0xffffffffu) {
    case NFS_SUPER_MAGIC: return "NFS";
    case SMB_SUPER_MAGIC: return "SMB";
    case CIFS_SUPER_MAGIC: return "CIFS";
    case SMB2_SUPER_MAGIC: return "SMB";
    case FUSE_SUPER_MAGIC: return "FUSE";
    case CEPH_SUPER_MAGIC: return "Ceph";
    case AFS_SUPER_MAGIC: return "AFS";
    case AFS_FS_MAGIC: return "AFS";
    case CODA_SUPER_MAGIC: return "Coda";
    case V9FS_MAGIC: return "9p";
    case OCFS2_SUPER_MAGIC: return "OCFS2";
    case 0x01161970: return "GFS2";
    case 0x0bd00bd0: return "Lustre";
    case 0x786f4256: return "a shared folder of VirtualBox";
    default: return nullptr;
  }
}

}  // namespace understudy::replication
