package layer

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"strata/internal/errdef"
)

// TestSparseHeld: what an index holds of sparse files counts, so that a small tar of many large holes is refused rather than held.
func TestSparseHeld(t *testing.T) {
	body := make([]byte, 1<<20)
	sparse := func(held int64) (*node, error) {
		x := newIndexer(&countingReader{}, math.MaxInt, &contentStore{})
		x.names = held
		n := &node{size: int64(len(body))}
		return n, x.sparse(n, bytes.NewReader(body))
	}
	n, err := sparse(0)
	if err != nil || len(n.chunks.list) != 256 {
		t.Fatalf("pieces of 4 KiB: %+v, %v", n.chunks, err)
	}
	if _, err := sparse(maxHeld - 256*heldChunk); err != nil {
		t.Errorf("just within the bound: %v", err)
	}
	if _, err := sparse(maxHeld - 256*heldChunk + 1); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("beyond the bound: %v", err)
	}
}
