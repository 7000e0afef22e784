// Package mount makes the few kinds of mounts that strata needs: overlays and binds, and the private mount namespace that
// they live in.
//
// Mounts exist only inside [Private]: on one thread's own mount namespace, and in the processes started from there. When
// the last of these ends the kernel takes the mounts away, so a killed strata leaves none behind.
//
// Every overlay is mounted so that nothing that lies in a layer can steer it: redirect_dir=nofollow (a planted redirect
// xattr is not followed; "off" still would), metacopy=off, index=off.
//
// Paths given to this package are strata's own. This package must never know images, layers or containers.
package mount
