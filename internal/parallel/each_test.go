package parallel_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// In a bubble, whose clock stands still while anything can run: what was begun beside the failure ends only after it.
func TestEachFails(t *testing.T) {
	for _, n := range []int{8, 1000} {
		synctest.Test(t, func(t *testing.T) {
			var tried atomic.Int32
			err := parallel.Each(n, func(i int) error {
				tried.Add(1)
				if i == 5 {
					return fmt.Errorf("at %d: %w", i, errors.ErrUnsupported)
				}
				if i > 5 {
					time.Sleep(time.Second)
				}
				return nil
			})
			if !errors.Is(err, errors.ErrUnsupported) || err.Error() != "at 5: unsupported operation" {
				t.Errorf("%d: %v", n, err)
			}
			if got, most := int(tried.Load()), 5+runtime.GOMAXPROCS(0); got > most {
				t.Errorf("%d of %d were tried, with an error at the sixth", got, n)
			}
		})
	}
}
