package parallel_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"strata/internal/parallel"
)

func TestEach(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 1000} {
		done := make([]atomic.Int32, n)
		if err := parallel.Each(n, func(i int) error { done[i].Add(1); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range done {
			if got := done[i].Load(); got != 1 {
				t.Fatalf("%d of %d was done %d times", i, n, got)
			}
		}
	}
}

func TestEachFails(t *testing.T) {
	for _, n := range []int{8, 1000} {
		var tried atomic.Int32
		err := parallel.Each(n, func(i int) error {
			tried.Add(1)
			if i == 5 {
				return fmt.Errorf("at %d: %w", i, errors.ErrUnsupported)
			}
			return nil
		})
		if !errors.Is(err, errors.ErrUnsupported) || err.Error() != "at 5: unsupported operation" {
			t.Errorf("%d: %v", n, err)
		}
		if int(tried.Load()) == n {
			t.Errorf("all %d were tried after the error", n)
		}
	}
}
