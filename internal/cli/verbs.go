package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// verb is a command at the top of the grammar. make is called only when the command line names it, or when all are to be
// listed: setting up forty commands with their flags would take longer than most of them run.
type verb struct {
	name, group string
	make        func() *cobra.Command
}

// verbs lists the commands where docker has them: most stand at the top and again under their noun.
func (a *app) verbs() []verb {
	return []verb{
		{"build", "build", a.build},
		{"builder", "build", a.builderGroup},
		{"buildx", "build", a.buildxGroup},
		{"history", "build", a.history},

		{"attach", "run", a.attach},
		{"commit", "run", a.commit},
		{"container", "run", a.containerGroup},
		{"cp", "run", a.cp},
		{"create", "run", a.create},
		{"diff", "run", a.diff},
		{"exec", "run", a.exec},
		{"export", "run", a.export},
		{"kill", "run", a.kill},
		{"logs", "run", a.logs},
		{"pause", "run", a.pause},
		{"port", "run", a.port},
		{"ps", "run", a.ps},
		{"rename", "run", a.rename},
		{"restart", "run", a.restart},
		{"rm", "run", a.rm},
		{"run", "run", a.run},
		{"start", "run", a.start},
		{"stats", "run", a.stats},
		{"stop", "run", a.stop},
		{"top", "run", a.top},
		{"unpause", "run", a.unpause},
		{"update", "run", a.update},
		{"wait", "run", a.wait},

		{"network", "run", a.networkGroup},

		{"image", "image", a.imageGroup},
		{"images", "image", a.images},
		{"import", "image", a.importImage},
		{"inspect", "image", a.inspect},
		{"load", "image", a.load},
		{"login", "image", a.login},
		{"logout", "image", a.logout},
		{"manifest", "image", a.manifest},
		{"pull", "image", a.pull},
		{"push", "image", a.push},
		{"rmi", "image", a.rmi},
		{"save", "image", a.save},
		{"search", "image", a.search},
		{"tag", "image", a.tag},
		{"tags", "image", a.tags},

		{"context", "system", a.contextGroup},
		{"doctor", "system", a.doctor},
		{"events", "system", a.events},
		{"info", "system", a.info},
		{"system", "system", a.systemGroup},
		{"version", "system", a.version},
		{"volume", "run", a.volumeGroup},
	}
}

// addVerbs hangs under root the verbs that args name (a word may be a flag's value: then one too many), or all of them
// when args name none or ask for a list.
func (a *app) addVerbs(root *cobra.Command, args []string) {
	all := a.verbs()
	chosen := slices.DeleteFunc(slices.Clone(all), func(v verb) bool { return !slices.Contains(args, v.name) })
	if len(chosen) == 0 || wantsAll(args[0]) {
		chosen = all
	}
	for _, v := range chosen {
		c := v.make()
		c.GroupID = v.group
		root.AddCommand(c)
	}
}

// completionWord begins the hidden commands by which a shell asks what may be typed next.
const completionWord = "__complete"

// wantsAll reports whether the first word asks for a list of verbs, or for completion, which needs them all.
func wantsAll(word string) bool {
	return word == "help" || word == "completion" || word == "-h" || word == "--help" || strings.HasPrefix(word, completionWord)
}

func (a *app) imageGroup() *cobra.Command {
	return a.group("image", "Work with images", a.build(), a.imageCopy(), a.history(), a.importImage(), a.inspectKind("image"), a.load(),
		named(a.images(), "ls [OPTIONS] [REPOSITORY[:TAG]]", "list"), a.imagePrune(), a.pull(), a.push(), named(a.rmi(), "rm [OPTIONS] IMAGE [IMAGE...]", "remove"), a.save(), a.imageSync(), a.tag())
}

func (a *app) containerGroup() *cobra.Command {
	return a.group("container", "Work with containers", a.attach(), a.commit(), a.cp(), a.create(), a.diff(), a.exec(), a.export(), a.inspectKind("container"),
		a.kill(), a.logs(), named(a.ps(), "ls [OPTIONS]", "list", "ps"), a.pause(), a.port(), a.containerPrune(), a.rename(), a.restart(),
		named(a.rm(), "rm [OPTIONS] CONTAINER [CONTAINER...]", "remove"), a.run(), a.start(), a.stats(), a.stop(), a.top(), a.unpause(),
		a.update(), a.wait())
}

func (a *app) builderGroup() *cobra.Command {
	return a.group("builder", "Work with the build cache", a.build(), a.builderCacheMount(), a.builderDu(), a.builderPrune())
}

func (a *app) systemGroup() *cobra.Command {
	return a.group("system", "Work with this machine's store", a.systemCheck(), a.systemDf(), a.events(), a.info(), a.systemPrune(), a.systemReset(), a.systemStart(), a.systemStop(), a.systemUnit())
}

// named gives a verb the name it has under its noun.
func named(cmd *cobra.Command, use string, aliases ...string) *cobra.Command {
	cmd.Use, cmd.Aliases = use, aliases
	return cmd
}
