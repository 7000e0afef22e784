package dockerfile_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

var update = flag.Bool("update", false, "write the golden files anew")

func parse(src string) (*dockerfile.File, error) {
	return dockerfile.Parse(strings.NewReader(src), "Dockerfile")
}

func mustParse(t testing.TB, src string) *dockerfile.File {
	t.Helper()
	f, err := parse(src)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestErrors writes down what a person sees of each mistake.
func TestErrors(t *testing.T) {
	long := "FROM alpine\nRUN " + strings.Repeat("x", 200) + " \\\n" + strings.Repeat(" y \\\n", 20) + " z\nFOO bar\n"
	cases := []struct{ name, src string }{
		{"curly quotes", "FROM ubuntu\nRUN apt-get update\nCOPY [“./start.sh”, ”/root/start.sh”]\nENTRYPOINT /root/start.sh\n"},
		{"curly quotes in CMD", "FROM ubuntu\nCMD [“nginx”, “-g”, “daemon off;”]\n"},
		{"curly quotes in HEALTHCHECK", "FROM ubuntu\nHEALTHCHECK --interval=1s CMD [“curl”, “x”]\n"},
		{"curly quotes in ONBUILD", "FROM ubuntu\nONBUILD RUN [“make”]\n"},
		{"curly quotes and a flag", "FROM ubuntu\nCOPY --chown=1 [ ‘a’, ‘b’ ]\n"},
		{"curly quotes beyond help", "FROM ubuntu\nRUN [“a” “b\n"},
		{"single quotes", "FROM ubuntu\nRUN ['make', 'all']\n"},
		{"text after exec form", "FROM alpine\nRUN [\"x\"]junk\n"},
		{"comma at the end", "FROM alpine\nCOPY [\"a\", \"b\",]\n"},
		{"comma forgotten", "FROM alpine\nRUN [\"a\" \"b\"]\n"},
		{"bracket forgotten", "FROM alpine\nRUN [\"a\", \"b\"\n"},
		{"numbers in exec form", "FROM alpine\nRUN [\"sleep\", 1]\n"},
		{"misspelt instruction", "FROM alpine\n\nWROKDIR /app\nRUN x\n"},
		{"unknown instruction", "FROM alpine\nINCLUDE other\n"},
		{"misspelt FROM", "FORM alpine\nRUN x\n"},
		{"yaml", "version: \"3\"\nservices:\n  web:\n    image: nginx\n"},
		{"yaml with a marker", "---\nfrom: alpine\n"},
		{"yaml list", "- FROM alpine\n- RUN x\n"},
		{"yaml instruction", "FROM alpine\nRUN: make\n"},
		{"json", "{\"FROM\": \"alpine\"}\n"},
		{"empty", ""},
		{"blank", " \n\t\n"},
		{"comments only", "# nothing\n# here\n"},
		{"no FROM", "RUN x\n"},
		{"only ARG", "ARG A=1\n"},
		{"FROM of two words", "FROM alpine builder\n"},
		{"FROM without a name", "FROM\n"},
		{"bad stage name", "FROM alpine AS 1x\n"},
		{"COPY without destination", "FROM alpine\nCOPY x\n"},
		{"ENV without a value", "FROM alpine\nENV x\n"},
		{"WORKDIR without a path", "FROM alpine\nWORKDIR\n"},
		{"EXPOSE without a port", "FROM alpine\nEXPOSE\n"},
		{"unknown flag", "FROM alpine\nCOPY --form=x /a /b\n"},
		{"SHELL not JSON", "FROM alpine\nSHELL bash\n"},
		{"ONBUILD FROM", "FROM alpine\nONBUILD FROM x\n"},
		{"HEALTHCHECK of nothing", "FROM alpine\nHEALTHCHECK curl\n"},
		{"here-document without end", "FROM alpine\nRUN <<EOF\nx\n"},
		{"other front end", "# syntax=example.com/other/front:1\nFROM alpine\n"},
		{"escape of a wrong character", "# escape=x\nFROM alpine\n"},
		{"escape twice", "# escape=`\n# escape=`\nFROM alpine\n"},
		{"bad check", "# check=foo\nFROM alpine\n"},
		{"NUL", "FROM alpine\nRUN x\x00y\n"},
		{"article", "#Download base image\nFROM ubuntu\nRUN apt-get update\nRUN apt-get install nginx -y\nCOPY index.nginx-debian.html /var/www/html\nEXPOSE 80\n" +
			"COPY [“./start.sh”, ”/root/start.sh”]\nENTRYPOINT /root/start.sh\n"},
		{"bare words", "FROM alpine\nRUN [npm, start]\n"},
		{"no backslash after &&", "FROM alpine\nRUN a &&\n  b\n"},
		{"no backslash before &&", "FROM alpine\nRUN a\n\n  # then\n  && b\n"},
		{"no backslash at all", "FROM alpine\nRUN a \\\n  && b\n  ccccc d\n"},
		{"no backtick", "# escape=`\nFROM alpine\nRUN a ||\n  b\n"},
		{"list without a backslash", "FROM alpine\nENV a=b\n  c=d\n"},
		{"command", "FROM alpine\napt-get install nginx\n"},
		{"cd", "FROM alpine\ncd /app\n"},
		{"export", "FROM alpine\nexport A=b\n"},
		{"long dash", "FROM alpine\nCOPY —chown=1 a b\n"},
		{"compose", "# app\nservices:\n  web:\n    build: .\n"},
		{"yaml spaced", "from : alpine\nrun : x\n"},
		{"web page", "<!DOCTYPE html>\n<html>\n"},
		{"markdown", "```dockerfile\nFROM alpine\n```\n"},
		{"script", "#!/bin/sh\necho hi\n"},
		{"UTF-16", "\xff\xfeF\x00R\x00"},
		{"control characters", "FROM alpine\nR\x1b[31mUN x\n"},
		{"long instruction", strings.Replace(long, "FOO bar\n", "", 1) + "COPY [“a”, “b”]\n"},
		{"long range", "FROM alpine\nCOPY [“a”, \\\n" + strings.Repeat("“b”, \\\n", 20) + "“c”]\n"},
	}
	var b strings.Builder
	for _, c := range cases {
		_, err := parse(c.src)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		if !errors.Is(err, errdef.ErrInvalid) && !errors.Is(err, errdef.ErrUnsupported) {
			t.Errorf("%s: error without a class: %v", c.name, err)
		}
		var e *dockerfile.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %T", c.name, err)
			continue
		}
		fmt.Fprintf(&b, "== %s\n%s\n%s", c.name, err, e.Excerpt)
		if hint := errdef.Hint(err); hint != "" {
			fmt.Fprintf(&b, "hint: %s\n", hint)
		}
	}
	golden(t, "testdata/errors.golden", b.String())
}

func TestWarnings(t *testing.T) {
	src := `FROM alpine AS Base
maintainer me
ENV NAME World
ENV MY_PASSWORD=x PUBLIC_KEY=y
LABEL a b
RUN a \

  && b
CMD ['python', 'app.py']
ENTRYPOINT ["x"] # run it
CMD ["python", "app.py",]
CMD [npm, start]
ENV A = b
RUN a && \
  b \
CMD x
RUN a &&
RUN echo “hi”
LABEL a=“b” c="“d”"
HEALTHCHECK --interval=1s \
CMD true
RUN <<EOF
CMD
EOF
FROM alpine as scratch
FROM alpine AS base
`
	var b strings.Builder
	for _, w := range mustParse(t, src).Warnings {
		fmt.Fprintf(&b, "%d %s: %s\n", w.First, w.Rule, w.Text)
	}
	golden(t, "testdata/warnings.golden", b.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestParseAccepts(t *testing.T) {
	for name, src := range map[string]string{
		"mark of UTF-8":         "\ufeffFROM alpine\n",
		"mark and directive":    "\ufeff# syntax=docker/dockerfile:1\nFROM alpine\n",
		"CRLF":                  "FROM alpine\r\nRUN a \\\r\n  b\r\n",
		"no line end":           "FROM alpine",
		"syntax":                "# syntax=docker/dockerfile:1.7-labs\nFROM alpine\n",
		"syntax with a digest":  "#syntax=docker/dockerfile:1@sha256:" + strings.Repeat("a", 64) + "\nFROM alpine\n",
		"syntax of a mirror":    "# syntax = mirror.example.com:5000/docker/dockerfile-upstream:master\nFROM alpine\n",
		"escape and syntax":     "# escape=`\n# syntax=docker/dockerfile:1\nFROM alpine\n",
		"shell test":            "FROM alpine\nRUN [ \"$A\" ] && b\n",
		"shell test unspaced":   "FROM alpine\nRUN [ 'a' = 'b' ] || [ “x” = x ]\n",
		"curly quotes in JSON":  "FROM alpine\nCMD [\"echo\", \"“hi”\"]\n",
		"curly quotes in test":  "FROM alpine\nRUN [ “$a” = “b” ]\n",
		"curly quotes in shell": "FROM alpine\nRUN echo “hi” [“x”]\n",
		"pattern":               "FROM alpine\nCOPY [a-z]* /x/\n",
		"longest line":          "FROM alpine\nRUN " + strings.Repeat("x", dockerfile.MaxLine-4) + "\n",
		"comment in a run":      "FROM alpine\nRUN a \\\n# b\n c\n",
		"YAML in a heredoc":     "FROM alpine\nCOPY <<EOF /x\nversion: 3\n---\nEOF\n",
	} {
		if _, err := parse(src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseBounds(t *testing.T) {
	for name, src := range map[string]string{
		"file":         "FROM alpine\n#" + strings.Repeat("x\n#", dockerfile.MaxFile/3),
		"line":         "FROM alpine\nRUN " + strings.Repeat("x", dockerfile.MaxLine) + "\n",
		"heredoc line": "FROM alpine\nRUN <<EOF\n" + strings.Repeat("x", dockerfile.MaxLine+1) + "\nEOF\n",
	} {
		if _, err := parse(src); !errors.Is(err, errdef.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDirectives(t *testing.T) {
	f := mustParse(t, "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all;error=true\nFROM alpine\nMAINTAINER x\n")
	if f.Syntax != "docker/dockerfile:1" || f.Escape != '`' || !f.Strict || len(f.Warnings) != 0 {
		t.Errorf("%q %q %v %v", f.Syntax, f.Escape, f.Strict, f.Warnings)
	}
}

func TestInstructionsAreFresh(t *testing.T) {
	f := mustParse(t, "FROM alpine\nUSER $A\n")
	for range 2 {
		stages, _, err := f.Instructions()
		if err != nil {
			t.Fatal(err)
		}
		user := stages[0].Commands[0].(*instructions.UserCommand)
		if user.User != "$A" {
			t.Errorf("user %q", user.User)
		}
		user.User = "changed"
	}
}

// TestCheckComment: BuildKit's parser falls over such a comment when it has no linter.
func TestCheckComment(t *testing.T) {
	f := mustParse(t, "FROM alpine\n# check=skip=all\nENV A b\n")
	if _, _, err := f.Instructions(); err != nil {
		t.Error(err)
	}
	if _, err := f.Trigger("# check=skip=all\nENV A b", 1, 1); err != nil {
		t.Error(err)
	}
	if len(f.Warnings) != 0 {
		t.Error(f.Warnings)
	}
}

func TestAt(t *testing.T) {
	f := mustParse(t, "FROM alpine\nRUN x\n")
	err := f.At(2, 2, fmt.Errorf("exit code 1\nmore: %w", errdef.ErrUnavailable))
	if !errors.Is(err, errdef.ErrUnavailable) || errors.Is(err, errdef.ErrInvalid) || err.Error() != "Dockerfile:2: exit code 1 more: unavailable" {
		t.Errorf("%v", err)
	}
	if again := f.At(1, 1, fmt.Errorf("outer: %w", err)); again.Error() != "outer: Dockerfile:2: exit code 1 more: unavailable" {
		t.Errorf("%v", again)
	}
	if f.At(1, 1, nil) != nil {
		t.Error("nil became an error")
	}
}

func TestClosest(t *testing.T) {
	names := []string{"RUN", "ENV", "COPY", "WORKDIR", "ENTRYPOINT"}
	for word, want := range map[string]string{"RNU": "RUN", "COPPY": "COPY", "ENTRIPOINT": "ENTRYPOINT", "RUN": "", "X": "", "FOOBAR": "", "WROKDRI": "WORKDIR"} {
		if got := dockerfile.Closest(word, names); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	fifty, err := os.ReadFile("testdata/fifty")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		string(fifty), "", "FROM a", "FROM a\nCOPY [“a”, “b”]", "FROM a\nRUN <<E\nx\nE\n", "# escape=`\nFROM a\nRUN `", "a: b", "FROM a\nONBUILD RUN x",
		"FROM a\nHEALTHCHECK CMD [\"", "FROM a\nONBUILD", "FROM a\nONBUILD ONBUILD [", "# check=skip=x;;\nFROM a", "FROM a\nRUN [\"a\",]", "\ufeff#x\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := dockerfile.Parse(bytes.NewReader(src), "Dockerfile")
		if err != nil {
			if !errors.Is(err, errdef.ErrInvalid) && !errors.Is(err, errdef.ErrLimit) && !errors.Is(err, errdef.ErrUnsupported) {
				t.Fatalf("error without a class: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Fatalf("error is not one printable line: %q", err)
			}
			return
		}
		if _, _, err := file.Instructions(); err != nil {
			t.Fatalf("the second time: %v", err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	src, err := os.ReadFile("testdata/fifty")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, err := dockerfile.Parse(bytes.NewReader(src), "Dockerfile"); err != nil {
			b.Fatal(err)
		}
	}
}
