package layer

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// Verified reads a layer's tar; instead of io.EOF it ends with errdef.ErrCorrupt when that was not the layer. It also
// ends with its context.
func Verified(ctx context.Context, tar io.Reader, id oci.DiffID) io.Reader {
	return &verifiedReader{ctx: ctx.Err, r: tar, id: id, verifier: digest.Digest(id).Verifier()}
}

type verifiedReader struct {
	ctx      func() error
	r        io.Reader
	id       oci.DiffID
	verifier digest.Verifier
}

func (v *verifiedReader) Read(p []byte) (int, error) {
	if err := v.ctx(); err != nil {
		return 0, err
	}
	n, err := v.r.Read(p)
	v.verifier.Write(p[:n])
	if err == io.EOF && !v.verifier.Verified() {
		err = fmt.Errorf("layer %s: what is stored gives another tar: %w", v.id, errdef.ErrCorrupt)
	}
	return n, err
}
