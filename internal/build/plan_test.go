package build_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// images is a Resolver of a few fixed images. It counts what it is asked.
type images struct {
	mu    sync.Mutex
	asked []string
	extra map[string]oci.Config
}

func (r *images) ResolveImage(_ context.Context, name string, p oci.Platform) (build.Base, error) {
	r.mu.Lock()
	r.asked = append(r.asked, name+" "+oci.Format(p))
	r.mu.Unlock()
	cfg := oci.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}}
	switch name {
	case "alpine", "busybox", "nginx", "alpine:3.20":
	case "full":
		cfg = oci.Config{
			Env: []string{"PATH=/usr/bin", "BASE=base"}, User: "app", WorkingDir: "/srv", Cmd: []string{"serve"}, Entrypoint: []string{"/init"},
			Labels: map[string]string{"from": "base"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
			Shell: []string{"/bin/bash", "-c"}, StopSignal: "SIGQUIT",
		}
	case "onbuild":
		cfg.OnBuild = []string{"ARG MODE=prod", "COPY --from=busybox /bin/x /x", "RUN make $MODE", "ENV DONE=1"}
	case "badonbuild":
		cfg.OnBuild = []string{"FROM x"}
	case "bare":
		cfg = oci.Config{}
	default:
		c, ok := r.extra[name]
		if !ok {
			return build.Base{}, fmt.Errorf("image %q: %w", name, errdef.ErrNotFound)
		}
		cfg = c
	}
	img := &oci.Image{OS: p.OS, Architecture: p.Architecture, Config: cfg, History: []oci.History{{CreatedBy: "base"}}}
	img.RootFS = oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{oci.EmptyLayer}}
	return build.Base{
		Name: "docker.io/library/" + name, Digest: digest.FromString(name), ID: digest.FromString("id" + name),
		Config: img, Layers: img.RootFS.DiffIDs,
	}, nil
}

func amd64() oci.Platform { return oci.Platform{OS: "linux", Architecture: "amd64"} }
func arm64() oci.Platform { return oci.Platform{OS: "linux", Architecture: "arm64"} }

func plan(t testing.TB, src string, o build.Options) (*build.Plan, error) {
	t.Helper()
	f, err := dockerfile.Parse(strings.NewReader(src), "Dockerfile")
	if err != nil {
		return nil, err
	}
	if o.Platform.OS == "" {
		o.Platform = amd64()
	}
	return build.NewPlan(context.Background(), f, &images{}, o)
}

// dump writes a plan as lines, for tests to look for.
func dump(p *build.Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "stage %s", s.ID)
		fmt.Fprintln(&b, strings.TrimRight(" "+s.FromName, " "))
		for _, st := range s.Steps {
			fmt.Fprintf(&b, "name %s\n", st.Name)
			switch st.Kind {
			case build.KindRun:
				r := st.Run
				fmt.Fprintf(&b, "run %q cwd=%s user=%s net=%s\nrunenv %q proxy=%q\n", r.Args, r.Cwd, r.User, r.Network, r.Env, r.Proxy)
				for _, m := range r.Mounts {
					from := "-"
					if m.From != nil {
						from = m.From.ID
					}
					fmt.Fprintf(&b, "mount %s %s id=%s from=%s %s\n", m.Type, m.Target, m.ID, from, m.Source)
				}
			case build.KindCopy:
				c := st.Copy
				from, mode := "context", "-"
				var sources []string
				unpack := false
				for _, src := range c.Sources {
					sources = append(sources, src.Path)
					unpack = unpack || src.Unpack
				}
				if c.From != nil {
					from = c.From.ID
				}
				if c.Chmod != nil {
					mode = c.Chmod.String()
				}
				fmt.Fprintf(&b, "copy %s %q inline=%q to %s own=%s mode=%s unpack=%v%s\n", from, sources, c.Inline, c.Dest, c.Chown, mode, unpack, extras(c))
			case build.KindWorkdir:
				fmt.Fprintf(&b, "mkdir %s user=%s\n", st.Workdir.Path, st.Workdir.User)
			}
		}
	}
	img := p.Target.Image
	for _, h := range img.History {
		fmt.Fprintf(&b, "history %v %s\n", h.EmptyLayer, h.CreatedBy)
	}
	c := img.Config
	fmt.Fprintf(&b, "env %q\ncmd %q\nentrypoint %q\nuser %q\nworkdir %q\nlabels %v\nports %v\nvolumes %v\nstop %q\nonbuild %q\nshell %q\nhealth %+v\nauthor %q\nplatform %s\n",
		c.Env, c.Cmd, c.Entrypoint, c.User, c.WorkingDir, c.Labels, keys(c.ExposedPorts), keys(c.Volumes), c.StopSignal, c.OnBuild, c.Shell, health(c.Healthcheck), img.Author,
		oci.Format(oci.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant}))
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning %d %s: %s\n", w.First, w.Rule, w.Text)
	}
	return b.String()
}

func health(h *oci.Healthcheck) any {
	if h == nil {
		return "-"
	}
	return *h
}

func keys(m map[string]struct{}) []string { return slices.Sorted(maps.Keys(m)) }

func args(kv ...string) map[string]*string {
	m := map[string]*string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = &kv[i+1]
	}
	return m
}

func TestPlan(t *testing.T) {
	for _, tc := range planCases() {
		t.Run(tc.name, func(t *testing.T) {
			p, err := plan(t, tc.src, tc.opts)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error is %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := dump(p)
			for _, w := range tc.want {
				no, isNo := strings.CutPrefix(w, "!")
				if has := strings.Contains("\n"+got, "\n"+strings.TrimSuffix(no, "…")+end(no)); has == isNo {
					t.Errorf("want %q in\n%s", w, got)
				}
			}
		})
	}
	if len(planCases()) < 80 {
		t.Errorf("only %d cases", len(planCases()))
	}
}

// end: an expectation is a whole line unless it ends in "…".
func end(line string) string {
	if strings.HasSuffix(line, "…") {
		return ""
	}
	return "\n"
}

func TestPlanResolvesOnlyWhatIsNeeded(t *testing.T) {
	f, err := dockerfile.Parse(strings.NewReader("FROM alpine AS a\nFROM broken AS b\nCOPY --from=alsobroken /x /x\nFROM alpine AS c\nCOPY --from=a /x /y\nCOPY --from=busybox /x /z\n"), "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	r := &images{}
	p, err := build.NewPlan(context.Background(), f, r, build.Options{Platform: amd64()})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.asked) != 2 {
		t.Errorf("asked for %q, want alpine and busybox once each", r.asked)
	}
	var ids []string
	for _, s := range p.Stages {
		ids = append(ids, s.ID)
	}
	if got := strings.Join(ids, " "); got != "image:busybox a c" {
		t.Errorf("stages %s", got)
	}
}

func TestPlanAnnotations(t *testing.T) {
	p, err := plan(t, "FROM alpine AS a\nFROM a\nRUN x\n", build.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Annotations["org.opencontainers.image.base.name"] != "docker.io/library/alpine" ||
		p.Annotations["org.opencontainers.image.base.digest"] != digest.FromString("alpine").String() {
		t.Errorf("annotations %v", p.Annotations)
	}
}

// extras are what few copies have.
func extras(c *build.Copy) (text string) {
	if c.Link {
		text += " link"
	}
	if len(c.Exclude) > 0 {
		text += fmt.Sprintf(" exclude=%q", c.Exclude)
	}
	for _, s := range c.Sources {
		if s.Parents {
			text += fmt.Sprintf(" include=%q", s.Include)
		}
		if s.URL != "" {
			text += fmt.Sprintf(" url=%s %s", s.URL, s.Checksum)
		}
		if s.Repo != nil {
			text += fmt.Sprintf(" git=%s %s", s.Repo, s.Repo.Checksum)
		}
	}
	return text
}

func TestPlanHistoryIndex(t *testing.T) {
	p, err := plan(t, "FROM alpine\nENV A=1\nRUN x\nWORKDIR /w\nUSER u\nCOPY a b\n", build.Options{BuildArgs: args("SOURCE_DATE_EPOCH", "1700000000")})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Target.Steps {
		if h := p.Target.Image.History[s.History]; h.EmptyLayer || h.Created.Unix() != 1700000000 {
			t.Errorf("step %s has history %+v", s.Name, h)
		}
	}
	if s := p.Target.Steps[1]; s.Lines != (build.Lines{First: 4, Last: 4}) || s.Source != "WORKDIR /w" {
		t.Errorf("step %+v", s)
	}
}

func TestPlanTwice(t *testing.T) {
	f, err := dockerfile.Parse(strings.NewReader("FROM alpine\nARG A\nENV B=$A\n"), "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"one", "two"} {
		p, err := build.NewPlan(context.Background(), f, &images{}, build.Options{BuildArgs: args("A", v)})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Target.Image.Config.Env[1]; got != "B="+v {
			t.Errorf("%s", got)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	_, err := plan(t, "FROM alpine\nRUN a\nRUN --security=insecure make\nRUN b\n", build.Options{})
	var e *dockerfile.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v", err, err)
	}
	if e.First != 3 || !strings.Contains(e.Excerpt, "   3 | >>> RUN --security") || e.Error() != "Dockerfile:3: security.insecure is not allowed" {
		t.Errorf("%v\n%s", e, e.Excerpt)
	}
	_, err = plan(t, "FROM alpine AS builder\nFROM biulder\n", build.Options{})
	if errdef.Hint(err) != "FROM builder" {
		t.Errorf("hint of %v is %q", err, errdef.Hint(err))
	}
	_, err = plan(t, "FROM alpine AS builder\n", build.Options{Target: "bulder"})
	if errdef.Hint(err) != "--target builder" {
		t.Errorf("hint of %v is %q", err, errdef.Hint(err))
	}
}

func TestPlanBoundsExpansion(t *testing.T) {
	var b strings.Builder
	b.WriteString("FROM scratch\nENV A0=xxxxxxxxxxxxxxxx\n")
	for i := range 64 {
		fmt.Fprintf(&b, "ENV A%d=$A%d$A%d\n", i+1, i, i)
	}
	_, err := plan(t, b.String(), build.Options{})
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error is %.200v", err)
	}
	_, err = plan(t, "FROM scratch\nENV A="+strings.Repeat("${x:-", 10000)+strings.Repeat("}", 10000)+"\n", build.Options{})
	if err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("error is %.200v", err)
	}
	_, err = plan(t, "FROM scratch\nEXPOSE "+strings.Repeat("0-65535 ", 6000)+"\n", build.Options{})
	if err == nil || !strings.Contains(err.Error(), "EXPOSE of more") {
		t.Errorf("error is %.200v", err)
	}
}

// FuzzPlan plans whatever parses, with triggers that a hostile base could carry.
func FuzzPlan(f *testing.F) {
	for _, c := range planCases() {
		f.Add(c.src, "RUN x")
	}
	f.Add("FROM evil\n", "# check=skip=all\nENV A b")
	f.Add("FROM evil\n", "COPY --from=0 a b")
	f.Add("FROM evil AS a\nFROM a\nCOPY --from=a x y\n", "ONBUILD ONBUILD RUN x")
	f.Fuzz(func(t *testing.T, src, trigger string) {
		file, err := dockerfile.Parse(strings.NewReader(src), "Dockerfile")
		if err != nil {
			return
		}
		r := &images{extra: map[string]oci.Config{"evil": {OnBuild: []string{trigger}, Env: []string{"=", "x", ""}, WorkingDir: "../x"}}}
		p, err := build.NewPlan(context.Background(), file, r, build.Options{Platform: amd64()})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("error is not one line: %q", err)
			}
			return
		}
		for _, s := range p.Stages {
			for _, st := range s.Steps {
				if c := st.Copy; c != nil {
					if !strings.HasPrefix(c.Dest, "/") {
						t.Fatalf("destination %q", c.Dest)
					}
					for _, one := range c.Sources {
						src := one.Path
						if strings.HasPrefix(src, "/") || src == ".." || strings.HasPrefix(src, "../") || strings.Contains(src, "/../") {
							t.Fatalf("source %q", src)
						}
					}
				}
			}
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	src, err := os.ReadFile("../dockerfile/testdata/fifty")
	if err != nil {
		b.Skip("no example: ", err)
	}
	f, err := dockerfile.Parse(strings.NewReader(string(src)), "Dockerfile")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := build.NewPlan(context.Background(), f, &images{}, build.Options{Platform: amd64()}); err != nil {
			b.Fatal(err)
		}
	}
}
