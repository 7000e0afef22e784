package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// few is how many things are done without company: starting it would take longer.
const few = 16

// Each calls fn with every number below n, on as many goroutines as there are processors, and gives the error of the lowest
// number that failed, as far as they were tried: after an error no more are begun.
func Each(n int, fn func(i int) error) error {
	if n < few {
		for i := range n {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	}
	var next, stopped atomic.Int64
	var mu sync.Mutex
	first, failed := n, error(nil)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for stopped.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := fn(i); err != nil {
					stopped.Store(1)
					mu.Lock()
					if i < first {
						first, failed = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return failed
}
