package layer

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// ExtractOptions change what ExtractTree makes of an archive.
type ExtractOptions struct {
	UID, GID    *int // owner of every entry, instead of what the archive says
	IgnoreOwner bool // as in [Options]
	MaxEntries  int  // as in [Options]
}

// ExtractTree unpacks an uncompressed tar for ADD into the directory dest of the tree at root, a directory opened with
// O_PATH. dest and every name in the archive are resolved as a process chrooted to root would; names that leave the
// archive's own root are errors. Directories that are missing are made 0755, of root. What stands in the way of an
// entry is replaced, except something that is no directory where one is needed. Whiteouts are not interpreted: such a
// name could not be kept in a layer and is errdef.ErrInvalid.
func ExtractTree(ctx context.Context, tar io.Reader, root *os.File, dest string, o ExtractOptions) error {
	u := newUnpacker(int(root.Fd()), nil)
	defer u.t.close()
	u.base = strings.TrimPrefix(path.Clean("/"+dest), "/")
	u.uid, u.gid, u.ignoreOwner, u.max = o.UID, o.GID, o.IgnoreOwner, o.MaxEntries
	if u.max == 0 {
		u.max = DefaultMaxEntries
	}
	if _, err := u.t.dir(u.base); err != nil {
		return fmt.Errorf("archive into %q: %w", dest, err)
	}
	if err := u.run(ctx, &stopReader{ctx.Err, tar}); err != nil {
		return fmt.Errorf("archive into %q: %w", dest, err)
	}
	return nil
}

// stopReader ends between two reads when stop says so.
type stopReader struct {
	stop func() error
	r    io.Reader
}

func (c *stopReader) Read(p []byte) (int, error) {
	if err := c.stop(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
