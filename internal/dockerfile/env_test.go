package dockerfile_test

import (
	"errors"
	"strings"
	"testing"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

func TestExpand(t *testing.T) {
	f := mustParse(t, "FROM scratch\n")
	env := dockerfile.NewEnv([]string{"A=1", "E=", "P=a/b.tar.gz", "A=2"})
	for _, tc := range []struct {
		mode       dockerfile.Mode
		word, want string
	}{
		{dockerfile.Word, `$A-${A}-\$A-'$A'-"$A"`, "2-2-$A-$A-2"},
		{dockerfile.Word, "${N:-x}${N-y}${E:-z}${E-w}${A:+s}${N+u}", "xyzs"},
		{dockerfile.Word, "${P##*/} ${P%.*} ${P%%.*} ${P#*/} ${P/a/c}", "b.tar.gz a/b.tar a/b b.tar.gz c/b.tar.gz"},
		{dockerfile.Word, "${N:-${A}}", "2"},
		{dockerfile.Heredoc, `"$A" '$A' \$A`, `"2" '2' $A`},
		{dockerfile.Display, `"$A" $N '$A'`, `"2" $N '$A'`},
	} {
		x, err := f.Expand(tc.mode, tc.word, env)
		if err != nil || x.Text != tc.want {
			t.Errorf("%s: %q %v, want %q", tc.word, x.Text, err, tc.want)
		}
	}
	if _, err := f.Expand(dockerfile.Word, strings.Repeat("${N:-", 1000), env); !errors.Is(err, errdef.ErrLimit) {
		t.Error(err)
	}
	big := dockerfile.NewEnv([]string{"B=" + strings.Repeat("x", 1<<20)})
	if _, err := f.Expand(dockerfile.Word, strings.Repeat("$B", 9), big); !errors.Is(err, errdef.ErrLimit) {
		t.Error(err)
	}
	if _, err := f.ExpandWords(strings.Repeat("$B", 9), big); !errors.Is(err, errdef.ErrLimit) {
		t.Error(err)
	}
	if words, err := f.ExpandWords(`$A "b c" $P`, env); err != nil || len(words) != 3 {
		t.Errorf("%q %v", words, err)
	}
}

func TestEnv(t *testing.T) {
	e := dockerfile.NewEnv([]string{"A=1", "B", "A=2"})
	c := e.Clone()
	c.Set("C", "3")
	if got := strings.Join(e.List(), " "); got != "A=2 B=" {
		t.Error(got)
	}
	if got := strings.Join(c.List(), " "); got != "A=2 B= C=3" {
		t.Error(got)
	}
}
