package build

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

func (p *planner) copy(s *stage, c *instructions.CopyCommand, cmd command, at Lines) error {
	for _, flag := range []struct {
		name string
		used bool
	}{{"exclude", len(c.ExcludePatterns) > 0}, {"link", c.Link}, {"parents", c.Parents}} {
		if flag.used {
			return unsupportedFlag("COPY", flag.name)
		}
	}
	for _, src := range c.SourcePaths {
		if isRemote(src) {
			return errdef.WithHint(fmt.Errorf("COPY %s: COPY takes no remote sources", src), "ADD "+src+" "+c.DestPath)
		}
	}
	cp := &Copy{}
	if cmd.from != nil {
		cp.From = cmd.from.out
	}
	return p.copyStep(s, cp, copySpec{"COPY", c.SourcesAndDest, c.Chown, c.Chmod, c.String()}, cmd, at)
}

func (p *planner) add(s *stage, c *instructions.AddCommand, cmd command, at Lines) error {
	for _, flag := range []struct {
		name string
		used bool
	}{{"checksum", c.Checksum != ""}, {"exclude", len(c.ExcludePatterns) > 0}, {"keep-git-dir", c.KeepGitDir != nil}, {"link", c.Link}} {
		if flag.used {
			return unsupportedFlag("ADD", flag.name)
		}
	}
	for _, src := range c.SourcePaths {
		if isRemote(src) {
			return fmt.Errorf("ADD %s: remote sources are %w yet", src, errdef.ErrUnsupported)
		}
	}
	cp := &Copy{Unpack: c.Unpack == nil || *c.Unpack}
	return p.copyStep(s, cp, copySpec{"ADD", c.SourcesAndDest, c.Chown, c.Chmod, c.String()}, cmd, at)
}

// copySpec is what COPY and ADD have in common, expanded.
type copySpec struct {
	word         string
	what         instructions.SourcesAndDest
	chown, chmod string
	source       string
}

func (p *planner) copyStep(s *stage, cp *Copy, spec copySpec, cmd command, at Lines) error {
	mode, err := parseMode(spec.word, spec.chmod)
	if err != nil {
		return err
	}
	cp.Chown, cp.Chmod = spec.chown, mode
	cp.Dest = destination(s.cwd(), spec.what.DestPath)
	text := spec.word
	if spec.chown != "" {
		text += " --chown=" + spec.chown
	}
	if spec.chmod != "" {
		text += " --chmod=" + spec.chmod
	}
	for _, src := range spec.what.SourcePaths {
		text += " " + src
		cp.Sources = append(cp.Sources, source(src))
	}
	for _, in := range spec.what.SourceContents {
		text += " <<" + in.Path
		if strings.Contains(in.Path, "/") || in.Path == "." || in.Path == ".." {
			return fmt.Errorf("%s <<%s: the name of the here-document is no file name", spec.word, in.Path)
		}
		cp.Inline = append(cp.Inline, Inline{Name: in.Path, Data: in.Data})
	}
	text += " " + spec.what.DestPath
	name := s.name(p.displayText(s, dockerfile.Word, spec.source), cmd.onbuild)
	p.step(s, Step{Kind: KindCopy, Copy: cp}, cmd, at, name, text+" # buildkit")
	return nil
}

func (p *planner) workdir(s *stage, c *instructions.WorkdirCommand, cmd command, at Lines, lint *linter.Linter) error {
	if !s.workdirSet && !path.IsAbs(c.Path) {
		lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	s.workdirSet = true
	cfg := &s.out.Image.Config
	cfg.WorkingDir = absolute(s.cwd(), c.Path)
	text := "WORKDIR " + cfg.WorkingDir
	if path.Clean(cfg.WorkingDir) == "/" {
		p.history(s, text, true)
		return nil
	}
	name := s.name(p.displayText(s, dockerfile.Word, c.String()), cmd.onbuild)
	step := Step{Kind: KindWorkdir, Workdir: &Workdir{Path: path.Clean(cfg.WorkingDir), User: cfg.User}}
	p.step(s, step, cmd, at, name, text)
	return nil
}

// absolute gives WORKDIR's directory. As with BuildKit an absolute path stays as it is written.
func absolute(cwd, dir string) string {
	switch {
	case dir == "":
		return cwd
	case path.IsAbs(dir):
		return dir
	}
	return path.Join("/", cwd, dir)
}

// destination makes COPY's destination absolute and clean; a "/" or "/." at its end stays, because it says directory.
func destination(cwd, dest string) string {
	if dest == "" || dest == "." {
		dest = "./"
	}
	full := path.Clean(dest)
	if !path.IsAbs(dest) {
		full = path.Join("/", cwd, dest)
	}
	switch {
	case full == "/":
		return full
	case strings.HasSuffix(dest, "/"):
		return full + "/"
	case strings.HasSuffix(dest, "/."):
		return full + "/."
	}
	return full
}

// source makes a source relative to its root and clean. It cannot leave the root: ".." at the top stays there.
func source(src string) string {
	src = strings.TrimPrefix(path.Join("/", src), "/")
	if src == "" {
		return "."
	}
	return src
}

// parseMode reads --chmod.
func parseMode(word, text string) (*uint32, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err == nil && n <= 0o7777 {
		mode := uint32(n)
		return &mode, nil
	}
	if strings.ContainsAny(text, "ugoa+-=") && !strings.ContainsAny(text, "0123456789") {
		return nil, fmt.Errorf("%s --chmod=%s: symbolic modes are %w yet", word, text, errdef.ErrUnsupported)
	}
	return nil, fmt.Errorf("%s --chmod=%s: want an octal number from 0 to 7777", word, text)
}

// isRemote tells a URL or a git repository from a path.
func isRemote(src string) bool {
	if slices.ContainsFunc([]string{"http://", "https://", "git://", "ssh://"}, func(s string) bool { return strings.HasPrefix(src, s) }) {
		return true
	}
	user, rest, ok := strings.Cut(src, "@")
	host, _, colon := strings.Cut(rest, ":")
	return ok && colon && user != "" && host != "" && !strings.ContainsAny(user+host, "/*?[ ")
}
