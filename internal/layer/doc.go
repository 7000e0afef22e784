// Package layer keeps layers by diffID.
//
// A layer is a changeset: what one step adds to, changes in and removes from the tree below it. Its identity is its
// diffID, the digest of its uncompressed tar. It lies here in one of two forms, which nobody else can tell apart.
//
// Directory form:
//
//	layers/<hex>/fs/          the changeset as files, ready to be an overlay lower directory
//	layers/<hex>/skeleton     what it takes beside fs/ to give back the identical tar
//	layers/<hex>/shadow/      payloads that fs/ does not have (any more); only where there are such
//
// Tar form, where [Options.TarForm] says so, for layers that come as a tar:
//
//	layers/<hex>/tar          the tar as it came
//	layers/<hex>/index.erofs  an EROFS image of the tree that unpacking it would give, with its content left in the tar
//
// Both:
//
//	layers/<hex>/sums         a checksum of each payload, to tell which file is damaged
//	layers/<hex>/meta.json    [Meta]
//
// Words. An entry is one member of a tar. Its payload is the bytes that follow its header. A whiteout (".wh.NAME") says
// that NAME of the lower layers is gone; an opaque mark (".wh..wh..opq") says that of all that lower layers have in the
// directory. On disk they are what overlay expects: a character device 0/0 and the xattr trusted.overlay.opaque, or
// user.overlay.opaque where [Options.Userxattr] is set. Whiteouts are about lower layers only: an entry of the same tar
// wins over them, wherever it stands. An implicit directory has no entry in the tar and is there because an entry
// below it needs it.
//
// Invariants:
//
//   - Any tar that archive/tar can read comes back from [Store.Tar] bit for bit, whatever of it is on disk.
//   - A layer is published whole, by renaming its directory. Who loses a race throws his own away.
//   - Nothing in a tar reaches beyond fs/: paths are walked component by component with O_NOFOLLOW, symbolic links are
//     followed inside the root by ourselves. Where a later entry needs a name that an earlier one took, the later wins.
//   - Overlay's own xattrs in a tar stay in the skeleton or the tar and never reach the disk or an index.
//   - Both forms of a tar show the same tree. indexer decides all as unpacker does, in memory.
//   - The kernel's EROFS parser gets images of our own making only, and their digest stands in the record.
//   - After [Store.Commit] the directory equals what unpacking its tar would give.
//
// Durability. Publishing waits for no disk. A layer that is not sealed carries the boot id of the kernel it was written
// under: within that boot it is good, after another boot [Store.Stat] does not find it, and the next Ingest replaces it.
// [Store.Sync] flushes and seals every unsealed layer that this Store wrote or handed out.
//
// This package must never know images, stacks or mounts.
package layer
