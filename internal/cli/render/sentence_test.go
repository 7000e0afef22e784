package render_test

import (
	"testing"

	"strata/internal/cli/render"
)

func TestSentence(t *testing.T) {
	for text, want := range map[string]string{
		`image "x": not found`:                                `image "x": not found`,
		`image "x": not found: not found`:                     `image "x": not found`,
		`open /x: no such file or directory: not found`:       `open /x: no such file or directory`,
		`no such object: x: not found`:                        `no such object: x`,
		`open /x: permission denied: permission denied`:       `open /x: permission denied`,
		`mkdir /x: read-only file system: permission denied`:  `mkdir /x: read-only file system`,
		`volume "x": invalid`:                                 `volume "x": invalid`,
		`volume "x": too many colons: invalid`:                `volume "x": too many colons`,
		`container abc is not running: conflict`:              `container abc is not running`,
		`runtime "x": not in $PATH: unavailable`:              `runtime "x": not in $PATH`,
		`network "x": not supported`:                          `network "x": not supported`,
		`x: invalid: invalid`:                                 `x: invalid`,
		"a: b: invalid\nimage \"y\": not found: not found":    "a: b\nimage \"y\": not found",
		`layer sha256:1: unexpected EOF: corrupt`:             `layer sha256:1: unexpected EOF: corrupt`,
		`link /a: file exists: already exists`:                `link /a: file exists`,
		`setxattr /a: operation not supported: not supported`: `setxattr /a: operation not supported`,
	} {
		if got := render.Sentence(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
