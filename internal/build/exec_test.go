package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// house is a store with what a build needs, and one base image.
type house struct {
	t      testing.TB
	dir    string
	layers *layer.Store
	base   build.Base
	runner func(ctx context.Context, id, bundle string, stdout, stderr *os.File) (int, error)

	secrets map[string][]byte

	mu     sync.Mutex
	events []progress.Event
}

func newHouse(t testing.TB) *house { return newHouseOf(t, layer.Options{}) }

func newHouseOf(t testing.TB, o layer.Options) *house {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	h := &house{t: t, dir: t.TempDir()}
	o.TempDir = h.temp
	var err error
	h.layers, err = layer.Open(filepath.Join(h.dir, "layers"), o)
	if err != nil {
		t.Fatal(err)
	}
	h.runner = func(context.Context, string, string, *os.File, *os.File) (int, error) {
		return 0, errors.New("this test runs nothing")
	}
	h.setBase(nil)
	return h
}

func (h *house) temp() (string, error) {
	dir := filepath.Join(h.dir, "tmp")
	return dir, os.MkdirAll(dir, 0o700)
}

// setBase makes the base image: a passwd, and the program at busybox under the names that tests call, where given.
func (h *house) setBase(busybox []byte) {
	h.t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	add := func(hdr tar.Header, data []byte) {
		hdr.Size, hdr.ModTime = int64(len(data)), time.Unix(1, 0)
		if err := w.WriteHeader(&hdr); err != nil {
			h.t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			h.t.Fatal(err)
		}
	}
	add(tar.Header{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir}, nil)
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"))
	add(tar.Header{Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nappgroup:x:1001:\n"))
	if busybox != nil {
		add(tar.Header{Name: "bin/", Mode: 0o755, Typeflag: tar.TypeDir}, nil)
		add(tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
		for _, name := range []string{"sh", "cat", "id", "ls", "true", "sleep", "hostname", "pwd", "mkdir"} {
			add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	meta, err := h.layers.Ingest(h.t.Context(), &raw, "")
	if err != nil {
		h.t.Fatal(err)
	}
	created := time.Unix(1_000_000_000, 0).UTC()
	h.base = build.Base{Name: "docker.io/library/base:latest", Layers: []oci.DiffID{meta.DiffID}, Config: &oci.Image{
		OS: "linux", Architecture: "amd64", Created: &created, History: []oci.History{{CreatedBy: "base", Created: &created}},
		RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{meta.DiffID}}}}
}

func (h *house) ResolveImage(context.Context, string, oci.Platform) (build.Base, error) {
	return h.base, nil
}

func (h *house) Emit(e progress.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Data = slices.Clone(e.Data)
	h.events = append(h.events, e)
}

// states tells the end of each step by its id.
func (h *house) ended() map[string]progress.State {
	ends := map[string]progress.State{}
	for _, e := range h.events {
		if e.State != progress.Log && e.State != progress.Status && e.State != progress.Started {
			ends[e.Vertex] = e.State
		}
	}
	return ends
}

func (h *house) note(vertex string) string {
	for _, e := range h.events {
		if e.Vertex == vertex && e.State == progress.Started {
			return e.Note
		}
	}
	return ""
}

func (h *house) build(ctx context.Context, text, contextDir, ignore string, args map[string]*string) (*oci.Image, error) {
	h.t.Helper()
	h.events = nil
	file, err := dockerfile.Parse(strings.NewReader(text), "Dockerfile")
	if err != nil {
		h.t.Fatal(err)
	}
	plan, err := build.NewPlan(ctx, file, h, build.Options{BuildArgs: args})
	if err != nil {
		h.t.Fatal(err)
	}
	deps := build.Deps{
		CacheDir: filepath.Join(h.dir, "cache"), LogDir: filepath.Join(h.dir, "logs"), RunDir: filepath.Join(h.dir, "run"),
		TempDir: h.temp, Hold: func(context.Context, ...string) error { return nil },
		Layers: h.layers, Stacks: rootfs.New(h.layers, filepath.Join(h.dir, "fixups"), rootfs.Options{}),
		Run: h.runner, Slot: "/src/Dockerfile", Parallel: 2, Sink: h, Secrets: h.secrets,
	}
	if contextDir != "" {
		ig, err := dockerfile.ParseIgnore(strings.NewReader(ignore), ".dockerignore")
		if err != nil {
			h.t.Fatal(err)
		}
		if deps.Context, err = build.NewContext(contextDir, ig, ".dockerignore", deps.CacheDir); err != nil {
			h.t.Fatal(err)
		}
	}
	img, err := build.Execute(ctx, plan, deps)
	if left, _ := filepath.Glob(filepath.Join(h.dir, "tmp", "*")); len(left) != 0 {
		h.t.Errorf("left in tmp: %v", left)
	}
	return img, err
}

func (h *house) must(text, contextDir string) *oci.Image {
	h.t.Helper()
	img, err := h.build(h.t.Context(), text, contextDir, "", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return img
}

// entries lists what a layer holds: "name mode uid:gid".
func (h *house) entries(id oci.DiffID) []string {
	h.t.Helper()
	var names []string
	for e, err := range h.layers.Entries(h.t.Context(), id) {
		if err != nil {
			h.t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %o %d:%d", e.Name, e.Mode&0o7777, e.UID, e.GID))
	}
	return names
}

func write(t testing.TB, dir, name, data string) {
	t.Helper()
	full := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCopyStages(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "a.txt", "A")
	write(t, dir, "src/b.txt", "B")
	const text = `FROM base AS one
COPY --chown=app:appgroup --chmod=640 a.txt /data/
FROM base
WORKDIR /w/x
COPY --from=one /data /copied/
COPY src ./
COPY <<EOF /inline
hello
EOF
LABEL a=b
`
	img := h.must(text, dir)
	want := [][]string{
		{"w 755 0:0", "w/x 755 0:0"},
		{"copied 755 0:0", "copied/a.txt 640 1000:1001"},
		{"w/x/b.txt 644 0:0"},
		{"inline 644 0:0"},
	}
	for i, id := range img.RootFS.DiffIDs[1:] {
		for _, entry := range want[i] {
			if !slices.Contains(h.entries(id), entry) {
				t.Errorf("layer %d: %q lacks %q", i, h.entries(id), entry)
			}
		}
	}
	for i, e := range img.History {
		if e.Created == nil || e.EmptyLayer != strings.Contains(e.CreatedBy, "LABEL") {
			t.Errorf("history %d: %+v", i, e)
		}
	}
	again := h.must(text, dir)
	for id, state := range h.ended() {
		if state != progress.Cached && id != "context" {
			t.Errorf("%s: %s", id, state)
		}
	}
	a, _ := img.Marshal()
	b, _ := again.Marshal()
	if !bytes.Equal(a, b) {
		t.Errorf("built again:\n%s\n%s", a, b)
	}
}

func TestCopyCache(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "package.json", "1")
	write(t, dir, "src/a.go", "1")
	const text = "FROM base\nCOPY package.json /\nCOPY src /src/\n"
	h.must(text, dir)
	// Times, and files that no step selects, are no reason to run.
	now := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "package.json"), now, now); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "README", "x")
	h.must(text, dir)
	if got := h.ended(); got["stage-0/0"] != progress.Cached || got["stage-0/1"] != progress.Cached {
		t.Errorf("nothing changed: %v", got)
	}
	write(t, dir, "src/b.go", "2")
	write(t, dir, "src/a.go", "2")
	h.must(text, dir)
	if got := h.ended(); got["stage-0/0"] != progress.Cached || got["stage-0/1"] != progress.Done {
		t.Errorf("src changed: %v", got)
	}
	if got, want := h.note("stage-0/1"), "src/a.go changed, file src/b.go is new"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
}

func TestCopyMissing(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "secret", "x")
	_, err := h.build(t.Context(), "FROM base\n\nCOPY secret /\n", dir, "secret\n", nil)
	var placed *dockerfile.Error
	if !errors.As(err, &placed) || placed.First != 3 || !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(errdef.Hint(err), ".dockerignore:1") {
		t.Errorf("%v, hint %q", err, errdef.Hint(err))
	}
	if _, err := h.build(t.Context(), "FROM base\nCOPY x /\n", "", "", nil); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("no context: %v", err)
	}
}

func TestAddUnpacks(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := w.WriteHeader(&tar.Header{Name: "in/file", Mode: 0o600, Uid: 7, Gid: 8}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "x.tar", raw.String())
	write(t, dir, "plain", "p")
	img := h.must("FROM base\nADD x.tar plain /dst/\nCOPY x.tar /raw/\n", dir)
	added, copied := strings.Join(h.entries(img.RootFS.DiffIDs[1]), "\n"), strings.Join(h.entries(img.RootFS.DiffIDs[2]), "\n")
	if !strings.Contains(added, "dst/in/file 600 7:8") || !strings.Contains(added, "dst/plain 644 0:0") || !strings.Contains(copied, "raw/x.tar") {
		t.Errorf("added:\n%s\ncopied:\n%s", added, copied)
	}
}

func TestConfigOnly(t *testing.T) {
	h := newHouse(t)
	img := h.must("FROM base\nENV a=b\n", "")
	if len(img.RootFS.DiffIDs) != 1 || !img.Created.Equal(*h.base.Config.Created) {
		t.Errorf("%+v", img)
	}
	img = h.must("FROM scratch\nENV a=b\n", "")
	raw, _ := json.Marshal(img.RootFS)
	if string(raw) != `{"type":"layers","diff_ids":[]}` || img.Created == nil {
		t.Errorf("%s", raw)
	}
}

// withRuntime lets the house run containers, or skips the test.
func (h *house) withRuntime() {
	r, err := runtime.Find(os.Getenv("STRATA_RUNTIME"))
	if err != nil {
		h.t.Skip("no OCI runtime: ", err)
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		h.t.Skip("no busybox to run")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("/ld-linux")) {
		h.t.Skip("busybox is not static")
	}
	h.setBase(raw)
	r.State = filepath.Join(h.dir, "runtime")
	h.runner = func(ctx context.Context, id, bundle string, stdout, stderr *os.File) (int, error) {
		return r.Run(ctx, id, bundle, runtime.Stdio{Out: stdout, Err: stderr}, nil)
	}
}

func TestRun(t *testing.T) {
	h := newHouse(t)
	h.withRuntime()
	const text = `FROM base
ARG VERSION=1
ENV NAME=value
USER app
WORKDIR /work
RUN echo "$NAME $VERSION $HOME $(id -u):$(id -g) $(pwd)"; touch /refused || echo denied
USER root
RUN echo "$NAME $VERSION $HOME $(id -u):$(id -g) $(pwd) $(hostname)" > /out && cat /out && cat /etc/hosts >/dev/null
RUN true
`
	img := h.must(text, "")
	var log strings.Builder
	for _, e := range h.events {
		log.Write(e.Data)
	}
	for _, want := range []string{"value 1 /home/app 1000:1001 /work\n", "denied", "value 1 /root 0:0 /work buildhost\n"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q: %s", want, log.String())
		}
	}
	if got := h.entries(img.RootFS.DiffIDs[len(img.RootFS.DiffIDs)-1]); len(got) != 1 || !strings.HasPrefix(got[0], "out 644") {
		t.Errorf("the last layer holds %q", got)
	}
	if last := img.History[len(img.History)-1]; !last.EmptyLayer {
		t.Errorf("RUN true made a layer: %+v", last)
	}
	kept, err := os.ReadFile(filepath.Join(h.dir, "logs", "stage-0%2F2.log"))
	if err != nil || !strings.Contains(string(kept), "buildhost") {
		t.Errorf("kept log %q, %v", kept, err)
	}
	two := "2"
	if _, err := h.build(t.Context(), text, "", "", map[string]*string{"VERSION": &two}); err != nil {
		t.Fatal(err)
	}
	if got := h.note("stage-0/1"); got != `build argument VERSION: "1" → "2"` {
		t.Errorf("note %q", got)
	}
}

func TestRunFails(t *testing.T) {
	h := newHouse(t)
	h.withRuntime()
	_, err := h.build(t.Context(), "FROM base\nRUN echo oops >&2; exit 3\n", "", "", nil)
	var step *build.StepError
	var placed *dockerfile.Error
	if !errors.As(err, &step) || step.ExitCode != 3 || step.Tail != "oops\n" || !errors.As(err, &placed) || placed.First != 2 {
		t.Errorf("%v, %+v", err, step)
	}
}

func TestRunCanceled(t *testing.T) {
	h := newHouse(t)
	h.withRuntime()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := h.build(ctx, "FROM base\nRUN sleep 600\n", "", "", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// fifty is a Dockerfile of fifty trivial steps.
func fifty() string {
	var text strings.Builder
	text.WriteString("FROM base\n")
	for i := range 50 {
		fmt.Fprintf(&text, "RUN echo %d > /f%d\n", i, i)
	}
	return text.String()
}

// BenchmarkCached is fifty steps that need not run.
func BenchmarkCached(b *testing.B) {
	h := newHouse(b)
	h.runner = func(context.Context, string, string, *os.File, *os.File) (int, error) { return 0, nil }
	h.must(fifty(), "")
	for b.Loop() {
		h.must(fifty(), "")
	}
}

// BenchmarkOverhead is fifty steps of a process that takes no time: what a build adds to the runtime.
func BenchmarkOverhead(b *testing.B) {
	h := newHouse(b)
	h.runner = func(_ context.Context, id, bundle string, _, _ *os.File) (int, error) {
		var spec struct{ Root struct{ Path string } }
		raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
		if err == nil {
			err = json.Unmarshal(raw, &spec)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(spec.Root.Path, id), []byte("x"), 0o644)
		}
		return 0, err
	}
	for b.Loop() {
		if err := os.RemoveAll(filepath.Join(h.dir, "cache")); err != nil {
			b.Fatal(err)
		}
		h.must(fifty(), "")
	}
}
