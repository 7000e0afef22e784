package runtime

import "time"

// The time between two looks at a pid file grows from the first to the last: a container that takes long to start is not
// looked at more often than it is worth. None starts within the first.
const (
	firstLook = 3 * time.Millisecond
	lastLook  = 20 * time.Millisecond
)

// awaitPid waits until the runtime has written the pid file, and gives what it says; false when it has not until ended is
// closed. It looks again and again, because the kernel's own way to be told costs more than the whole container: closing an
// inotify descriptor waits for five to fifteen milliseconds, at the end of the process if not before.
func (c *call) awaitPid(ended <-chan struct{}) (pid int, ok bool) {
	start := time.Now()
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	for over := false; ; {
		if pid, err := c.pid(); err == nil {
			return pid, true
		}
		if over {
			return 0, false
		}
		select {
		case <-ended:
			over = true // and look once more
		case <-timer.C:
			timer.Reset(min(max(time.Since(start)/5, firstLook), lastLook))
		}
	}
}
