package event

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"strata/internal/record"
)

func read(t *testing.T, l *Log, q Query) []Message {
	t.Helper()
	var got []Message
	if err := l.Read(t.Context(), q, func(m Message) error { got = append(got, m); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPastEvents(t *testing.T) {
	l := Open(filepath.Join(t.TempDir(), "events"))
	begin := time.Now()
	l.Emit(New(Container, "create", "c1", map[string]string{"a": "b", "name": "a label"}, "image", "app:1", "name", "web"))
	between := time.Now()
	l.Emit(New(Image, "tag", "sha256:1", nil, "name", "app:2"))
	end := time.Now()

	all := read(t, l, Query{Since: begin, Until: end})
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	m := all[0]
	if m.Status != "create" || m.ID != "c1" || m.From != "app:1" || m.Scope != "local" || m.Time != m.TimeNano/1e9 ||
		!maps.Equal(m.Actor.Attributes, map[string]string{"a": "b", "name": "web", "image": "app:1"}) {
		t.Errorf("%+v", m)
	}
	if got := read(t, l, Query{Since: between, Until: end}); len(got) != 1 || got[0].Action != "tag" {
		t.Errorf("since: %+v", got)
	}
	if got := read(t, l, Query{Until: between}); len(got) != 1 || got[0].Action != "create" {
		t.Errorf("until: %+v", got)
	}
	err := l.Read(t.Context(), Query{Since: end, Until: begin}, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be after `until`") {
		t.Error(err)
	}
}

func TestLiveEvents(t *testing.T) {
	l := Open(filepath.Join(t.TempDir(), "events"))
	l.Emit(New(Volume, "create", "old", nil))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Events are made until the reader has seen one: it may not listen yet at the first.
	go func() {
		for ctx.Err() == nil {
			l.Emit(New(Volume, "create", "new", nil))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	seen := errors.New("seen")
	err := l.Read(ctx, Query{}, func(m Message) error {
		if m.Actor.ID != "new" {
			t.Errorf("%+v", m)
		}
		return seen
	})
	if !errors.Is(err, seen) {
		t.Error(err)
	}
	cancel()
	if err := l.Read(ctx, Query{}, func(Message) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestEmitNeverFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Open(filepath.Join(file, "events")).Emit(New(Image, "tag", "x", nil))
	var none *Log
	none.Emit(New(Image, "tag", "x", nil))
}

func TestHugeLabelsAreLeftOut(t *testing.T) {
	l := Open(t.TempDir())
	labels := map[string]string{"huge": strings.Repeat("x", 2*record.MaxLine)}
	begin := time.Now()
	l.Emit(New(Container, "die", "c", labels, "name", "web", "exitCode", "3"))
	got := read(t, l, Query{Since: begin, Until: time.Now()})
	if len(got) != 1 || !maps.Equal(got[0].Actor.Attributes, map[string]string{"name": "web", "exitCode": "3"}) {
		t.Errorf("%+v", got)
	}
}

func TestFilter(t *testing.T) {
	die := New(Container, "die", "c1d2", map[string]string{"tier": "front", "plain": ""}, "image", "app:1", "name", "web")
	exec := New(Container, "exec_create: sh -c ls", "c1d2", nil, "image", "app:1", "name", "web")
	tag := New(Image, "tag", "sha256:77", nil, "name", "localhost:5000/app:2")
	for _, c := range []struct {
		filters string
		m       Message
		want    bool
	}{
		{"", die, true},
		{"type=container", die, true},
		{"type=image", die, false},
		{"type=image type=container", die, true},
		{"event=die", die, true},
		{"event=exec_create", exec, true},
		{"event=exec_die", exec, false},
		{"event=exec", exec, false},
		{"container=web", die, true},
		{"container=c1d", die, true},
		{"container=other", die, false},
		{"container=web", tag, false},
		{"image=app:1", die, true},
		{"image=app", die, true},
		{"image=app:2", die, false},
		{"image=localhost:5000/app", tag, true},
		{"image=sha256:77", tag, true},
		{"label=tier", die, true},
		{"label=tier=front", die, true},
		{"label=tier=back", die, false},
		{"label=tier label=none", die, false},
		{"label=plain=", die, true},
		{"Event=die type=container label=tier", die, true},
		{"event=die type=image", die, false},
		{"scope=local", die, false}, // as it is before it was kept
		{"plugin=x", die, false},
	} {
		f, err := ParseFilter(strings.Fields(c.filters))
		if err != nil {
			t.Errorf("%s: %v", c.filters, err)
			continue
		}
		if got := f.Match(c.m); got != c.want {
			t.Errorf("%s on %s %s: %v", c.filters, c.m.Type, c.m.Action, got)
		}
	}
	for _, bad := range []string{"x", "=y", "nosuch=1", ""} {
		if _, err := ParseFilter([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// FuzzDecode: what the journal gives is a whole message or none, and what was decoded can be kept again.
func FuzzDecode(f *testing.F) {
	good, err := encode(Message{Type: Container, Action: "die", TimeNano: 1, Actor: Actor{ID: "x", Attributes: map[string]string{"a": "b"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "container=x")
	f.Add([]byte(`{"Type":"image","Action":"tag","timeNano":9e99}`), "image=")
	f.Add([]byte(`{"Type":"image","Act`), "label=a=b")
	f.Fuzz(func(t *testing.T, line []byte, expr string) {
		filter, err := ParseFilter([]string{expr})
		if err == nil && len(filter) != 1 {
			t.Errorf("%q: %v", expr, filter)
		}
		m, err := decode(line)
		if err != nil {
			return
		}
		filter.Match(m)
		raw, err := encode(m)
		if err != nil || slices.Contains(raw, '\n') {
			t.Fatalf("%+v: %q %v", m, raw, err)
		}
		again, err := decode(raw)
		if err != nil || again.Action != m.Action || again.TimeNano != m.TimeNano || again.Actor.ID != m.Actor.ID {
			t.Errorf("%+v became %+v: %v", m, again, err)
		}
	})
}
