package layer

import (
	"context"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// JoinedTar is one tar of several trees, each in a directory of its own.
type JoinedTar struct {
	e    *emitter
	sink *writerSink
}

// NewJoinedTar writes to w.
func NewJoinedTar(w io.Writer) *JoinedTar {
	sink := &writerSink{w: w, buf: make([]byte, chunkSize)}
	return &JoinedTar{newEmitter(sink), sink}
}

// Tree writes the tree at dir as the directory name, as [WriteTree] does.
func (j *JoinedTar) Tree(ctx context.Context, dir, name string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	j.sink.stop = ctx.Err
	clear(j.e.links) // another tree may have the same inode numbers
	if err := j.e.dirEntry(fd, name); err != nil {
		return err
	}
	return j.e.dir(ctx, fd, name)
}

// Close ends the tar; it leaves the writer open.
func (j *JoinedTar) Close() error { return j.e.out.raw(zeroBlocks) }
