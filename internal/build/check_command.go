package build

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/program"
	"strata/internal/runtime"
)

// ruleCommand names the warning about an image whose command cannot be executed.
const ruleCommand = "CommandCannotRun"

// ChecksCommand reports whether the target's ENTRYPOINT or CMD is to be looked for in its files: an image to which the build
// added none is its base's business.
func (p *Plan) ChecksCommand() bool {
	cfg := p.Target.Image.Config
	return len(p.Target.Steps) > 0 && len(cfg.Entrypoint)+len(cfg.Cmd) > 0 && !p.File.Skips(ruleCommand)
}

// Tree is the finished image's file system; *rootfs.Root is one.
type Tree interface {
	program.Tree
	runtime.Files
}

// CheckCommand warns when the image's ENTRYPOINT or CMD names a program that cannot be executed in tree.
func (p *Plan) CheckCommand(tree Tree, img *oci.Image) []dockerfile.Warning {
	cfg := img.Config
	c := program.Command{Args: slices.Concat(cfg.Entrypoint, cfg.Cmd), Env: cfg.Env, Cwd: cfg.WorkingDir, Arch: img.Architecture}
	// A user whom this namespace does not have is one all the same.
	if user, err := runtime.LookupUser(tree, cfg.User, nil); err == nil || errors.Is(err, errdef.ErrUnsupported) {
		c.UID, c.GID, c.Groups = user.UID, user.GID, user.Groups
	}
	found := program.Foresee(tree, c)
	if found == nil || inVolume(cfg, found.Program) {
		return nil
	}
	w := dockerfile.Warning{Rule: ruleCommand, Text: found.Error()}
	if found.Hint != "" {
		w.Text += "; " + found.Hint
	}
	w.First, w.Last = p.commandLines(len(cfg.Entrypoint) > 0)
	return []dockerfile.Warning{w}
}

// inVolume reports whether a program is to come from a volume.
func inVolume(cfg oci.Config, word string) bool {
	file := word
	if !path.IsAbs(file) {
		file = path.Join("/", cfg.WorkingDir, word)
	}
	for v := range cfg.Volumes {
		if strings.HasPrefix(file, path.Clean(v)+"/") {
			return true
		}
	}
	return false
}

// commandLines are the lines of the target's last ENTRYPOINT or CMD; zeros when its base has it.
func (p *Plan) commandLines(entrypoint bool) (first, last int) {
	stages, _, err := p.File.Instructions()
	if err != nil || p.Target.Index >= len(stages) {
		return 0, 0
	}
	for _, c := range stages[p.Target.Index].Commands {
		_, isEntrypoint := c.(*instructions.EntrypointCommand)
		_, isCmd := c.(*instructions.CmdCommand)
		if isEntrypoint && entrypoint || isCmd && !entrypoint {
			first, last = dockerfile.Span(c.Location())
		}
	}
	return first, last
}
