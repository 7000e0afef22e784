// Package rootfs makes root file systems from stacks of layers, and works inside them without ever leaving them.
//
// Words. A stack is a list of layers, base first; its lower directories, topmost first, are what overlay mounts. A
// fix-up layer is a small tree of directories that this package makes where a layer's tar lacks entries for directories
// that it needs: unpacked, these got made-up metadata, and the topmost directory's metadata is what overlay shows. The
// fix-up layer lies directly above such a layer and carries the true metadata from the layers below. A stub is an empty
// file or directory made so that something can be mounted on it.
//
// [Root] is a handle on a tree of foreign making, an image's or a container's. Every path is resolved by the kernel
// (openat2 with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS) as a process chrooted there would: absolute links and ".."
// end inside. What changes a name resolves its parent to a descriptor first and then works on the last component
// relative to that, so nothing that is swapped meanwhile leads outside.
//
// Drivers. Three show a stack: the kernel's overlay; the program fuse-overlayfs, where kernel or file system cannot; and a copy
// of all files, for whoever may mount nothing. The first that works is taken when the first stack is mounted, and one suite
// holds that all give the same trees and make the same layers of the same work. [Stacks.Changes] gives what was written as the
// kernel's overlay would have left it, whichever driver wrote it.
//
// Stacks are mounted inside [Stacks.Private] only. This package must never know images, containers or runtimes.
package rootfs
