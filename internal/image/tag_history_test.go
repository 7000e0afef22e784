package image_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/image"
)

// Undoing goes back step by step, also after something new.
func TestBefore(t *testing.T) {
	var history []image.TagEvent
	at := time.Unix(0, 0)
	add := func(name, cause string) {
		at = at.Add(time.Second)
		history = append(history, image.TagEvent{Image: digest.FromString(name), Time: at, Cause: cause})
	}
	want := func(name string) {
		t.Helper()
		got, ok := image.Tag{History: history}.Before()
		if ok != (name != "") || ok && got.Image != digest.FromString(name) {
			t.Errorf("after %d moves: %v %v, want %q", len(history), got.Image, ok, name)
		}
	}
	want("")
	add("a", "build")
	want("")
	add("b", "build")
	want("a")
	add("c", "pull")
	want("b")
	add("b", "undo")
	want("a")
	add("a", "undo")
	want("")
	add("d", "build")
	want("a")
	add("a", "undo")
	want("")
	// The oldest events fall off: what an undo led to may be the first that is known.
	history = history[len(history)-1:]
	want("")
	add("e", "build")
	want("a")
}
