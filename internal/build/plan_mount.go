package build

import (
	"cmp"
	"fmt"
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/errdef"
)

// Where BuildKit puts secrets and agents that are given no target: Dockerfiles rely on it.
const (
	secretDir   = "/run/secrets/"
	agentSocket = "/run/buildkit/ssh_agent."
)

// runMounts reads the --mount flags, expanded, of a RUN. cmd.mounts are what their "from" means, in the same order.
func runMounts(s *stage, c *instructions.RunCommand, cmd command) ([]Mount, error) {
	var mounts []Mount
	agents := 0
	for i, in := range instructions.GetMounts(c) {
		m := Mount{
			Type: MountType(in.Type), ReadOnly: in.ReadOnly, ID: in.CacheID, Sharing: string(in.CacheSharing), Size: in.SizeLimit,
			Required: in.Required, UID: small(in.UID), GID: small(in.GID), Mode: small(in.Mode),
			Source: path.Join("/", in.Source),
		}
		if from := cmd.mounts[i]; from.direct() {
			m.Context = from.context.name
		} else if from != nil {
			m.From = from.out
		}
		if in.Target != "" {
			m.Target = path.Join("/", s.cwdFor(in.Target), in.Target)
		}
		var err error
		switch m.Type {
		case MountSecret:
			err = m.secret(in)
		case MountSSH:
			err = m.agent(in, agents)
			agents++
		default:
			err = m.tree()
		}
		if err != nil {
			return nil, fmt.Errorf("--mount=type=%s: %w", m.Type, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func small(n *uint64) *uint32 {
	if n == nil {
		return nil
	}
	v := uint32(*n) // read with 32 bits
	return &v
}

// cwdFor is what a relative path begins with.
func (s *stage) cwdFor(p string) string {
	if path.IsAbs(p) {
		return "/"
	}
	return s.cwd()
}

// tree completes a bind, a cache or a tmpfs.
func (m *Mount) tree() error {
	if m.Target == "" || m.Target == "/" {
		return fmt.Errorf("target %q: want a path below the root: %w", m.Target, errdef.ErrInvalid)
	}
	switch m.Type {
	case MountCache:
		m.ID = cmp.Or(m.ID, m.Target)
		m.Sharing = cmp.Or(m.Sharing, string(instructions.MountSharingShared))
		if m.Context != "" {
			m.Files = &Copy{Context: m.Context, Sources: []Source{{Written: m.Source, Path: source(m.Source)}}, Dest: m.Source}
		}
	case MountBind:
		if m.From == nil {
			m.Files = &Copy{Context: m.Context, Sources: []Source{{Written: m.Source, Path: source(m.Source)}}, Dest: m.Source}
		}
	}
	return nil
}

// secret completes a secret: a file at Target, unless it is only given as a variable.
func (m *Mount) secret(in *instructions.Mount) error {
	m.ID = cmp.Or(in.Source, in.CacheID)
	if m.ID == "" {
		m.ID = path.Base(m.Target)
	}
	if in.Env != nil {
		m.Env = cmp.Or(*in.Env, m.ID)
	}
	if m.Target == "" && in.Env == nil {
		m.Target = secretDir + path.Base(m.ID)
	}
	return nil
}

// agent completes the socket of an ssh agent, the nth of the step.
func (m *Mount) agent(in *instructions.Mount, n int) error {
	if in.Source != "" {
		return fmt.Errorf("source %q: an agent has none: %w", in.Source, errdef.ErrInvalid)
	}
	m.ID = cmp.Or(m.ID, "default")
	if m.Target == "" {
		m.Target = fmt.Sprintf("%s%d", agentSocket, n)
	}
	return nil
}
