package reference

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
)

const (
	defaultDomain  = "docker.io"
	legacyDomain   = "index.docker.io"
	officialPrefix = "library/"
	defaultTag     = "latest"

	maxPath = 255 // distribution's bound for the path of a repository, in bytes
	maxTag  = 128
)

// Ref is a normalised image reference.
type Ref struct {
	// Domain is the registry's host and optional port: "docker.io", "localhost:5000".
	Domain string
	// Path is the repository within the domain: "library/ubuntu".
	Path string
	// Tag is "" when none was given.
	Tag string
	// Digest is "" when none was given.
	Digest digest.Digest
}

// Parse reads a reference in familiar or full form. Errors are errdef.ErrInvalid and say which part is wrong; for a name
// that would be right in lower case the hint gives it.
func Parse(s string) (Ref, error) {
	if s == "" {
		return Ref{}, invalid(s, "it is empty")
	}
	if len(s) == 64 && isHex(s) {
		return Ref{}, invalid(s, "64 hexadecimal digits name an image id, not a repository")
	}
	domain, rest := splitDomain(s)
	path, tag, dgst := splitRest(rest)
	if err := checkPath(s, path.text); err != nil {
		return Ref{}, err
	}
	if !isDomain(domain) {
		return Ref{}, invalid(s, fmt.Sprintf("%.80q is not a registry's host[:port]", domain))
	}
	if tag.given && !isTag(tag.text) {
		return Ref{}, invalid(s, fmt.Sprintf("tag %.80q: want at most %d letters, digits, '_', '.' and '-', not starting with '.' or '-'", tag.text, maxTag))
	}
	if dgst.given && !isDigest(dgst.text) {
		return Ref{}, invalid(s, fmt.Sprintf("digest %.80q: want sha256: and 64 hexadecimal digits", dgst.text))
	}
	return Ref{Domain: domain, Path: path.text, Tag: tag.text, Digest: digest.Digest(dgst.text)}, nil
}

// checkPath says what is wrong with the repository path of the reference s.
func checkPath(s, path string) error {
	switch {
	case isPath(path) && len(path) > maxPath:
		return invalid(s, fmt.Sprintf("the repository name has %d characters, at most %d are allowed", len(path), maxPath))
	case isPath(path):
		return nil
	case strings.ToLower(path) != path:
		wrong := &CaseError{Name: s}
		if lower, e := Parse(lowerPath(s, path)); e == nil {
			wrong.Lower = lower.Familiar()
			return errdef.WithHint(wrong, fmt.Sprintf("did you mean `%s`?", wrong.Lower))
		}
		return wrong
	}
	return invalid(s, "want [host[:port]/]name[:tag][@digest], names of lower-case letters and digits, separated by '.', '_', '__', '-' or '/'")
}

// CaseError is the error about a name with upper-case letters.
type CaseError struct {
	// Name as it was given; Lower is what was meant, in familiar form, "" if that would be wrong too.
	Name, Lower string
}

// Error says it in docker's words.
func (e *CaseError) Error() string {
	return invalid(e.Name, "repository name must be lowercase").Error()
}

// Unwrap gives the class.
func (e *CaseError) Unwrap() error { return errdef.ErrInvalid }

// lowerPath is s with the repository path in lower case; tags and digests keep their case.
func lowerPath(s, path string) string {
	path = strings.TrimPrefix(path, officialPrefix)
	return strings.Replace(s, path, strings.ToLower(path), 1)
}

func invalid(s, why string) error {
	return fmt.Errorf("reference %.300q: %s: %w", s, why, errdef.ErrInvalid)
}

// splitDomain normalises: it tells the registry from the repository by docker's rule. The first component is a registry
// if it has a '.' or ':', an upper-case letter, or is "localhost".
func splitDomain(s string) (domain, rest string) {
	first, rest, slash := strings.Cut(s, "/")
	switch {
	case !slash:
		return defaultDomain, officialPrefix + s
	case first == legacyDomain:
		domain = defaultDomain
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain = first
	default:
		domain, rest = defaultDomain, s
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = officialPrefix + rest
	}
	return domain, rest
}

// part is one part of a reference; an empty one that was given ("ubuntu:") is an error, one that was not is none.
type part struct {
	text  string
	given bool
}

func splitRest(s string) (path, tag, dgst part) {
	s, dgst.text, dgst.given = strings.Cut(s, "@")
	path.text, tag.text, tag.given = strings.Cut(s, ":")
	return path, tag, dgst
}

// Name is the repository with its domain: "docker.io/library/ubuntu".
func (r Ref) Name() string { return r.Domain + "/" + r.Path }

// String is the full form: "docker.io/library/ubuntu:22.04@sha256:…".
func (r Ref) String() string { return r.Name() + r.suffix() }

// FamiliarName is the repository as a person types it: "ubuntu", "user/x", "quay.io/x/y".
func (r Ref) FamiliarName() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	if name, ok := strings.CutPrefix(r.Path, officialPrefix); ok && !strings.Contains(name, "/") {
		return name
	}
	return r.Path
}

// Familiar is the reference as a person types it: "ubuntu:22.04".
func (r Ref) Familiar() string { return r.FamiliarName() + r.suffix() }

func (r Ref) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// Official reports whether the name is one of those that Docker itself gives or checks.
func (r Ref) Official() bool {
	return r.Domain == defaultDomain && strings.HasPrefix(r.Path, officialPrefix)
}

// WithTag is r with another tag, without digest.
func (r Ref) WithTag(tag string) (Ref, error) {
	if !isTag(tag) {
		return Ref{}, fmt.Errorf("tag %.80q: want at most %d letters, digits, '_', '.' and '-', not starting with '.' or '-': %w", tag, maxTag, errdef.ErrInvalid)
	}
	r.Tag, r.Digest = tag, ""
	return r, nil
}

// WithDigest is r pinned to d, without tag. d must be valid.
func (r Ref) WithDigest(d digest.Digest) Ref {
	r.Tag, r.Digest = "", d
	return r
}

// Latest is r, with the tag "latest" if it has neither tag nor digest.
func (r Ref) Latest() Ref {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return r
}

// Repository is r without tag and digest.
func (r Ref) Repository() Ref {
	r.Tag, r.Digest = "", ""
	return r
}

// Familiarize is the familiar form of the full name, or name itself if it is none.
func Familiarize(name string) string {
	r, err := Parse(name)
	if err != nil {
		return name
	}
	return r.Familiar()
}
