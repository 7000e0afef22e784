package container

import (
	"testing"
	"time"

	"strata/internal/oci"
)

func TestRestartPolicy(t *testing.T) {
	for s, want := range map[string]RestartPolicy{
		"no": {Name: "no"}, "always": {Name: "always"}, "on-failure": {Name: "on-failure"}, "on-failure:3": {Name: "on-failure", MaxRetries: 3}, "": {},
	} {
		if got, err := ParseRestart(s); err != nil || got != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, bad := range []string{"often", "always:1", "on-failure:", "on-failure:-1", "on-failure:x", "on-failure:1:2"} {
		if got, err := ParseRestart(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	for _, c := range []struct {
		policy         string
		code, restarts int
		want           bool
	}{
		{"no", 1, 0, false}, {"", 1, 0, false}, {"always", 0, 99, true}, {"unless-stopped", 0, 99, true},
		{"on-failure", 0, 0, false}, {"on-failure", 1, 99, true}, {"on-failure:2", 1, 1, true}, {"on-failure:2", 1, 2, false},
	} {
		p, err := ParseRestart(c.policy)
		if err != nil || p.wants(c.code, c.restarts) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestHealthIsJudged(t *testing.T) {
	check := withHealthDefaults(oci.Healthcheck{Test: []string{"CMD", "x"}, Retries: 2})
	if check.Interval != 30*time.Second || check.StartInterval != 5*time.Second {
		t.Errorf("%+v", check)
	}
	good, bad := HealthResult{}, HealthResult{ExitCode: 1}
	h := Health{Status: "starting"}
	for i, step := range []struct {
		r      HealthResult
		early  bool
		status string
		streak int
	}{
		{bad, true, "starting", 0}, {bad, false, "starting", 1}, {bad, false, "unhealthy", 2}, {good, false, "healthy", 0},
		{bad, true, "healthy", 1}, {good, false, "healthy", 0}, {bad, false, "healthy", 1}, {bad, false, "unhealthy", 2}, {bad, false, "unhealthy", 3},
	} {
		h = h.judge(step.r, check, step.early)
		if h.Status != step.status || h.FailingStreak != step.streak || len(h.Log) > healthResults {
			t.Fatalf("step %d: %s %d %d, want %s %d", i, h.Status, h.FailingStreak, len(h.Log), step.status, step.streak)
		}
	}
	if len(h.Log) != healthResults {
		t.Errorf("%d results are kept", len(h.Log))
	}
}

func TestHealthIsMerged(t *testing.T) {
	img := &oci.Healthcheck{Test: []string{"CMD", "x"}, Interval: time.Second, Retries: 9}
	own := &oci.Healthcheck{Retries: 2}
	got := mergeHealth(own, img)
	if got.Test[1] != "x" || got.Interval != time.Second || got.Retries != 2 || own.Interval != 0 {
		t.Errorf("%+v", got)
	}
	if mergeHealth(nil, nil) != nil || mergeHealth(nil, img) != img || mergeHealth(own, nil) != own {
		t.Error("one alone is it")
	}
	for _, bad := range []oci.Healthcheck{{Test: []string{"SHELL", "x"}}, {Test: []string{"CMD"}}, {Interval: time.Microsecond}, {Retries: -1}} {
		if checkHealth(&bad) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
