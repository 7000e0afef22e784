package ship

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// maxSplit bounds a layer's tar-split, in bytes of JSON.
const maxSplit = 2 << 30

// splitEntry is a piece of a tar: bytes as they are (type 2), or a file whose bytes lie in the layer's tree (type 1).
// See github.com/vbatts/tar-split, tar/storage.
type splitEntry struct {
	Type    int    `json:"type"`
	Name    string `json:"name"`
	NameRaw []byte `json:"name_raw"` // where Name is no UTF-8
	Size    int64  `json:"size"`
	Payload []byte `json:"payload"`
}

const (
	splitFile    = 1
	splitSegment = 2
)

// joinSplit gives the tar that a tar-split and the files of its layer make. It closes both.
func joinSplit(split io.ReadCloser, tree *rootfs.Root) io.ReadCloser {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := errors.Join(writeSplit(w, split, tree), split.Close(), tree.Close())
		w.CloseWithError(err)
	}()
	return &joined{r, done}
}

// joined waits, when it is closed, for the writer to end.
type joined struct {
	*io.PipeReader
	done chan struct{}
}

func (j *joined) Close() error {
	err := j.PipeReader.Close()
	<-j.done
	return err
}

func writeSplit(w io.Writer, split io.Reader, tree *rootfs.Root) error {
	gz, err := gzip.NewReader(split)
	if err != nil {
		return fmt.Errorf("tar-split: %w: %w", errdef.ErrCorrupt, err)
	}
	dec := json.NewDecoder(io.LimitReader(gz, maxSplit))
	for {
		var e splitEntry
		err := dec.Decode(&e)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar-split: %w: %w", errdef.ErrCorrupt, err)
		}
		switch {
		case e.Type == splitSegment:
			_, err = w.Write(e.Payload)
		case e.Type == splitFile && e.Size > 0:
			err = writeFile(w, tree, e)
		}
		if err != nil {
			return err
		}
	}
}

// writeFile copies one file's bytes; the layer's digest proves them.
func writeFile(w io.Writer, tree *rootfs.Root, e splitEntry) error {
	name := e.Name
	if name == "" {
		name = string(e.NameRaw)
	}
	f, err := tree.Open(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("layer: %q is no file: %w", name, errdef.ErrCorrupt))
	}
	if _, err := io.CopyN(w, f, e.Size); err != nil {
		return fmt.Errorf("layer: file %q: %w", name, err)
	}
	return nil
}
