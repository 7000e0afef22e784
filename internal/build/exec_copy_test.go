package build_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// What a COPY --from selects decides, not the layers of the stage.
func TestCopyFromGoesByContent(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "app", "1")
	write(t, dir, "log", "1")
	const text = "FROM base AS one\nCOPY app log /out/\nFROM base\nCOPY --from=one /out/app /bin/\nCOPY --from=one --exclude=log /out /all/\n"
	h.must(text, dir)
	write(t, dir, "log", "2")
	h.must(text, dir)
	if got := h.ended(); got["one/0"] != progress.Done || got["stage-1/0"] != progress.Cached || got["stage-1/1"] != progress.Cached {
		t.Errorf("the log changed: %v", got)
	}
	write(t, dir, "app", "2")
	h.must(text, dir)
	if got := h.ended(); got["stage-1/0"] != progress.Done || got["stage-1/1"] != progress.Done {
		t.Errorf("the program changed: %v", got)
	}
	if got, want := h.note("stage-1/0"), "out/app changed"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
	_, err := h.build(t.Context(), "FROM base AS one\nFROM base\n\nCOPY --from=one /none /x\n", dir, "", nil)
	if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), `Dockerfile:4: "/none": not found`) {
		t.Error(err)
	}
}

// A linked layer is made once, whatever is below it.
func TestCopyLink(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "a", "1")
	write(t, dir, "b", "1")
	first := h.must("FROM base\nCOPY --chown=5 b /etc/\nCOPY --link --chown=7 a /etc/\n", dir)
	second := h.must("FROM base\nCOPY b /other\nCOPY --link --chown=7 a /etc/\n", dir)
	if got := h.ended(); got["stage-0/1/layer"] != progress.Cached {
		t.Errorf("other files below: %v", got)
	}
	a, b := first.RootFS.DiffIDs, second.RootFS.DiffIDs
	if len(a) != 3 || len(b) != 3 || a[2] != b[2] || a[1] == b[1] {
		t.Errorf("layers %v and %v", a, b)
	}
	want := []string{"etc 755 7:7", "etc/a 644 7:7"}
	got := h.entries(a[2])
	for i := range got {
		got[i] = strings.Replace(got[i], "/ ", " ", 1)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the layer holds %q", got)
	}
	if n := len(second.History); second.History[n-1].EmptyLayer || !strings.HasPrefix(second.History[n-1].CreatedBy, "COPY --chown=7 a /etc/") {
		t.Errorf("history %+v", second.History[n-1])
	}
	plain := h.must("FROM base\nCOPY --link a /etc/a\nCOPY --from=base /etc/passwd /p\n", dir)
	if got := h.entries(plain.RootFS.DiffIDs[2]); !slices.Contains(got, "p 644 0:0") {
		t.Errorf("what is below a linked directory is gone: %q", got)
	}
}

// A name that the image does not have is root, and the step says so.
func TestCopyChownOfStrangers(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	write(t, dir, "a", "1")
	for owner, want := range map[string]string{
		"app": "1000:1001", "app:root": "1000:0", "app:7": "1000:7", "7": "7:7", "7:appgroup": "7:1001", "root": "0:0", "0:9": "0:9",
		"nobody-here": "0:0", "app:no-group": "1000:1001", "nobody-here:appgroup": "0:1001",
	} {
		img := h.must("FROM base\nCOPY --chown="+owner+" a /x/\n", dir)
		if got := h.entries(img.RootFS.DiffIDs[1]); !slices.Contains(got, "x/a 644 "+want) {
			t.Errorf("%s: %q", owner, got)
		}
		said := ""
		for _, e := range h.events {
			said += string(e.Data)
		}
		if strings.Contains(owner, "no") != strings.Contains(said, "counts for nothing") {
			t.Errorf("%s: the step says %q", owner, said)
		}
	}
	if _, err := h.build(t.Context(), "FROM scratch\nCOPY --chown=app a /x\n", dir, "", nil); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}
