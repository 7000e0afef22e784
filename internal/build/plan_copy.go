package build

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/fetch"
)

func (p *planner) copy(s *stage, c *instructions.CopyCommand, cmd command, at Lines) error {
	cp := &Copy{Link: c.Link}
	cp.takeFrom(cmd.from)
	spec := copySpec{word: "COPY", what: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, exclude: c.ExcludePatterns, parents: c.Parents, source: c.String()}
	return p.copyStep(s, cp, spec, cmd, at)
}

func (p *planner) add(s *stage, c *instructions.AddCommand, cmd command, at Lines) error {
	cp := &Copy{Link: c.Link}
	spec := copySpec{
		word: "ADD", what: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, exclude: c.ExcludePatterns, source: c.String(),
		checksum: c.Checksum, keepGitDir: c.KeepGitDir, unpack: c.Unpack,
	}
	return p.copyStep(s, cp, spec, cmd, at)
}

// copySpec is what COPY and ADD say, expanded.
type copySpec struct {
	word         string
	what         instructions.SourcesAndDest
	chown, chmod string
	exclude      []string
	parents      bool
	checksum     string
	keepGitDir   *bool
	unpack       *bool
	source       string
}

func (p *planner) copyStep(s *stage, cp *Copy, spec copySpec, cmd command, at Lines) error {
	if err := spec.copy(cp, s.cwd()); err != nil {
		return err
	}
	name := s.name(p.displayText(s, dockerfile.Word, spec.source), cmd.onbuild)
	p.step(s, Step{Kind: KindCopy, Copy: cp}, cmd, at, name, spec.history())
	return nil
}

// copy completes the step's work.
func (spec *copySpec) copy(cp *Copy, cwd string) (err error) {
	if cp.Chmod, err = parseChmod(spec.word, spec.chmod); err != nil {
		return err
	}
	if _, err := patternmatcher.New(spec.exclude); err != nil {
		return fmt.Errorf("%s --exclude: %w: %w", spec.word, err, errdef.ErrInvalid)
	}
	cp.Chown, cp.Exclude = spec.chown, spec.exclude
	cp.Dest = destination(cwd, spec.what.DestPath)
	// As BuildKit has it, which would not find the directories made on the way in a layer of its own.
	cp.Link = cp.Link && cp.Chmod == nil
	if cp.Link && ownerByName(cp.Chown) {
		return errdef.WithHint(fmt.Errorf("%s --link --chown=%s: names are looked up in the tree below, of which --link knows nothing: %w", spec.word, spec.chown, errdef.ErrInvalid),
			"write numbers: --chown=1000:1000")
	}
	if err := spec.checkChecksum(); err != nil {
		return err
	}
	for _, src := range spec.what.SourcePaths {
		one, err := spec.one(src)
		if err != nil {
			return err
		}
		cp.Sources = append(cp.Sources, one)
	}
	for _, in := range spec.what.SourceContents {
		name := source(in.Path)
		if strings.Contains(name, "/") || name == "." {
			return fmt.Errorf("%s <<%s: the name of the here-document is no file name", spec.word, in.Path)
		}
		cp.Inline = append(cp.Inline, Inline{Name: name, Data: in.Data})
	}
	return nil
}

// history is the entry's text, BuildKit's word for word: not every flag is in it.
func (spec *copySpec) history() string {
	text := spec.word
	if spec.parents {
		text += " --parents"
	}
	if spec.chown != "" {
		text += " --chown=" + spec.chown
	}
	if spec.chmod != "" {
		text += " --chmod=" + spec.chmod
	}
	for _, src := range spec.what.SourcePaths {
		text += " " + src
	}
	for _, in := range spec.what.SourceContents {
		text += " <<" + in.Path
	}
	return text + " " + spec.what.DestPath + " # buildkit"
}

// checkChecksum: --checksum is about one thing that is fetched.
func (spec *copySpec) checkChecksum() error {
	sources := spec.what.SourcePaths
	switch {
	case spec.checksum == "":
		return nil
	case len(sources) != 1 || len(spec.what.SourceContents) > 0:
		return fmt.Errorf("%s --checksum: want one source: %w", spec.word, errdef.ErrInvalid)
	case !isRemote(sources[0]):
		return fmt.Errorf("%s --checksum: %s is neither a URL nor a git repository: %w", spec.word, sources[0], errdef.ErrInvalid)
	}
	return nil
}

// one makes a source of what is written.
func (spec *copySpec) one(src string) (Source, error) {
	repo, err := fetch.ParseRepo(src)
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", spec.word, err)
	}
	remote := repo != nil || fetch.IsURL(src)
	if remote && spec.word == "COPY" {
		return Source{}, errdef.WithHint(fmt.Errorf("COPY %s: COPY takes no remote sources", fetch.Redact(src)), "ADD "+src+" "+spec.what.DestPath)
	}
	one := Source{Written: src}
	switch {
	case repo != nil:
		one.Repo = repo
		return one, spec.repository(repo)
	case remote:
		one.URL, one.Unpack = src, spec.unpack != nil && *spec.unpack
		if spec.checksum != "" {
			if one.Checksum, err = digest.Parse(spec.checksum); err != nil {
				return one, fmt.Errorf("ADD --checksum=%s: want sha256: and 64 hexadecimal digits: %w", spec.checksum, errdef.ErrInvalid)
			}
		}
		return one, nil
	}
	one.Unpack = spec.word == "ADD" && (spec.unpack == nil || *spec.unpack)
	if spec.parents {
		one.Parents = true
		// What stands before the pivot is where the paths begin that are kept.
		base, pattern, pivot := strings.Cut(src, "/./")
		if !pivot {
			base, pattern = "/", src
		}
		one.Include = strings.TrimPrefix(path.Join("/", pattern), "/")
		src = base
	}
	one.Path = source(src)
	return one, nil
}

// repository gives a repository what the flags say of it.
func (spec *copySpec) repository(repo *fetch.Repo) error {
	if spec.keepGitDir != nil {
		if err := repo.Keep(*spec.keepGitDir); err != nil {
			return fmt.Errorf("ADD --keep-git-dir: %w", err)
		}
	}
	if spec.checksum == "" {
		return nil
	}
	if err := repo.Pin(spec.checksum); err != nil {
		return fmt.Errorf("ADD --checksum: %w", err)
	}
	return nil
}

// isRemote tells a URL or a git repository from a path.
func isRemote(src string) bool {
	repo, err := fetch.ParseRepo(src)
	return repo != nil || err != nil || fetch.IsURL(src)
}

// ownerByName reports whether an owner, or its group, is a name. "root" is the number 0, as BuildKit has it.
func ownerByName(spec string) bool {
	for part := range strings.SplitSeq(spec, ":") {
		if part != "" && part != "root" {
			if _, err := strconv.ParseInt(part, 10, 32); err != nil {
				return true
			}
		}
	}
	return false
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
