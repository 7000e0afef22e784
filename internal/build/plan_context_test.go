package build_test

import (
	"slices"
	"strings"
	"testing"

	"strata/internal/build"
	"strata/internal/dockerfile"
)

func contextPlan(t *testing.T, src string, r *images, contexts map[string]string) (*build.Plan, error) {
	t.Helper()
	f, err := dockerfile.Parse(strings.NewReader(src), "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	return build.NewPlan(t.Context(), f, r, build.Options{Contexts: contexts})
}

func TestNamedContexts(t *testing.T) {
	const src = "FROM alpine:latest AS one\nRUN exit 1\nFROM busybox\nCOPY --from=one a b\nCOPY --from=docker.io/library/nginx c d\nRUN --mount=from=nginx,target=/m true\n"
	r := &images{}
	plan, err := contextPlan(t, src, r, map[string]string{"one": "docker-image://full", "nginx": "./dir", "unused": "docker-image://nothere"})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.asked)
	if got := strings.Join(r.asked, ","); !strings.HasPrefix(got, "busybox ") || !strings.Contains(got, ",full ") || len(r.asked) != 2 {
		t.Errorf("asked for %s", got)
	}
	if one := plan.Stages[0]; one.Name != "one" || len(one.Steps) != 0 || one.Image.Config.User != "app" {
		t.Errorf("a stage that a context replaces has %d steps", len(one.Steps))
	}
	steps := plan.Target.Steps
	if steps[0].Copy.From != plan.Stages[0] || steps[1].Copy.Context != "nginx" || steps[1].Copy.From != nil {
		t.Errorf("%+v, %+v", steps[0].Copy, steps[1].Copy)
	}
	if m := steps[2].Run.Mounts[0]; m.From != nil || m.Files == nil || m.Files.Context != "nginx" {
		t.Errorf("%+v", m)
	}
}

func TestContextAsBase(t *testing.T) {
	plan, err := contextPlan(t, "FROM busybox\nCOPY a b\n", &images{}, map[string]string{"busybox": "https://host/x.git#v1"})
	if err != nil {
		t.Fatal(err)
	}
	s := plan.Target
	if !s.Scratch || len(s.Steps) != 2 || s.Steps[0].Copy.Context != "busybox" || s.Steps[0].Copy.Dest != "/" || s.Steps[1].Copy.Context != "" {
		t.Errorf("%+v", s)
	}
	for value, want := range map[string]string{"target:nope": `no stage of that name`, "docker-image://nothere": `image "nothere": not found`} {
		if _, err := contextPlan(t, "FROM busybox\n", &images{}, map[string]string{"busybox": value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestContextName(t *testing.T) {
	for name, want := range map[string]string{"alpine": "alpine", "docker.io/library/alpine:latest": "alpine", "alpine:3": "alpine:3", "host/x/y": "host/x/y", "A": "", "": ""} {
		if got, err := build.ContextName(name); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func TestEntitlements(t *testing.T) {
	plan := func(src, network string, steps build.StepOptions) error {
		f, err := dockerfile.Parse(strings.NewReader("FROM alpine\nRUN --"+src+" true\n"), "Dockerfile")
		if err != nil {
			t.Fatal(err)
		}
		_, err = build.NewPlan(t.Context(), f, &images{}, build.Options{Network: network, Steps: steps})
		return err
	}
	for _, c := range []struct {
		src, network string
		steps        build.StepOptions
		want         string
	}{
		{"security=insecure", "", build.StepOptions{}, "security.insecure is not allowed"},
		{"security=insecure", "", build.StepOptions{AllowInsecure: true}, ""},
		{"security=sandbox", "", build.StepOptions{}, ""},
		{"network=host", "none", build.StepOptions{}, "network.host is not allowed"},
		{"network=host", "none", build.StepOptions{AllowHost: true}, ""},
		{"network=host", "host", build.StepOptions{}, ""},
		{"device=vendor.com/class=x", "", build.StepOptions{}, "device=vendor.com/class=x is not allowed"},
		{"device=vendor.com/class=x", "", build.StepOptions{AllowDevices: []string{"vendor.com/class=y", "vendor.com/c"}}, "is not allowed"},
		{"device=vendor.com/class=x", "", build.StepOptions{AllowDevices: []string{"vendor.com/class"}}, ""},
		{"device=vendor.com/class=x,required", "", build.StepOptions{AllowDevices: []string{"vendor.com/class=x"}}, ""},
		{"device=vendor.com/class=x", "", build.StepOptions{AllowDevices: []string{"*"}}, ""},
		{"device=required", "", build.StepOptions{AllowDevices: []string{"*"}}, "no device is named"},
	} {
		err := plan(c.src, c.network, c.steps)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in %q: %v", c.src, c.network, err)
		}
	}
}
