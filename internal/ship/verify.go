package ship

import (
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// verified gives a blob's bytes, and errdef.ErrCorrupt in the place of an end that is too early, too late or of other
// bytes.
type verified struct {
	r    io.ReadCloser
	desc ocispec.Descriptor
	hash hash.Hash
	at   int64
	task *progress.Task
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.at += int64(n)
	if v.at > v.desc.Size {
		return 0, fmt.Errorf("blob %s: more than its %d bytes came: %w", v.desc.Digest, v.desc.Size, errdef.ErrCorrupt)
	}
	v.hash.Write(p[:n])
	if v.task != nil {
		_, _ = v.task.Write(p[:n]) // it counts, and cannot fail
	}
	if err != io.EOF {
		return n, err
	}
	if v.at < v.desc.Size {
		return n, fmt.Errorf("blob %s: %d of its %d bytes came: %w", v.desc.Digest, v.at, v.desc.Size, errdef.ErrCorrupt)
	}
	if got := digest.NewDigest(digest.SHA256, v.hash); got != v.desc.Digest {
		return n, fmt.Errorf("blob %s: its bytes have digest %s: %w", v.desc.Digest, got, errdef.ErrCorrupt)
	}
	return n, io.EOF
}

func (v *verified) Close() error { return v.r.Close() }
