package container

import (
	"testing"
	"time"
)

func TestTraffic(t *testing.T) {
	const dev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0
  eth0:1500      10    0    0    0     0          0         0     700       7    0    0    0     0       0          0
  eth1:     500       1    0    0    0     0          0         0       50       1    0    0    0     0       0          0
 short: 1 2
`
	if r, s := parseTraffic([]byte(dev)); r != 2000 || s != 750 {
		t.Error(r, s)
	}
}

func TestPercent(t *testing.T) {
	now := time.Now()
	before := Usage{At: now, CPU: time.Second}
	for _, c := range []struct {
		u    Usage
		want float64
	}{
		{Usage{At: now.Add(time.Second), CPU: 3 * time.Second}, 200},
		{Usage{At: now.Add(2 * time.Second), CPU: 2 * time.Second}, 50},
		{Usage{At: now, CPU: 2 * time.Second}, 0},
		{Usage{At: now.Add(time.Second), CPU: 0}, 0}, // it was started anew
	} {
		if got := c.u.Percent(before); got != c.want {
			t.Errorf("%+v: %v, want %v", c.u, got, c.want)
		}
	}
	if got := before.Percent(Usage{}); got != 0 {
		t.Error("without a figure before:", got)
	}
}

// TestUsageOfNothing: a container that does not run uses nothing.
func TestUsageOfNothing(t *testing.T) {
	s := testStore(t)
	if u, err := s.Usage(create(t, s, "idle")); u != (Usage{}) || err != nil {
		t.Error(u, err)
	}
}
