// The official scale set client against the simulated GitHub: what it sees, one line a step, for comparison with ours.
//
// Usage: scaleset-go CONFIG-URL TOKEN (automatic|acquire)
//
// A line that begins with "do " asks the test to do something; it answers with a line on standard input. A line that
// begins with "saw " is what was seen. Any disagreement ends the program with status 1.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/actions/scaleset"
)

const (
	setName    = "ours"
	runnerName = "host-1-abc"
)

var answers = bufio.NewScanner(os.Stdin)

func saw(format string, arguments ...any) {
	fmt.Printf("saw "+format+"\n", arguments...)
}

func do(what string) {
	fmt.Println("do " + what)
	if !answers.Scan() {
		fail(errors.New("nobody answers"), what)
	}
}

func fail(err error, step string) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", step, err)
	os.Exit(1)
}

func must[T any](value T, err error) func(step string) T {
	return func(step string) T {
		if err != nil {
			fail(err, step)
		}
		return value
	}
}

func expect(holds bool, step string) {
	if !holds {
		fail(errors.New("not as expected"), step)
	}
}

func counts(n *scaleset.RunnerScaleSetStatistic) string {
	return fmt.Sprintf("available %d assigned %d running %d registered %d busy %d idle %d", n.TotalAvailableJobs,
		n.TotalAssignedJobs, n.TotalRunningJobs, n.TotalRegisteredRunners, n.TotalBusyRunners, n.TotalIdleRunners)
}

func job(base scaleset.JobMessageBase) string {
	return fmt.Sprintf("%s %s/%s run %d %q %s %s", base.MessageType, base.OwnerName, base.RepositoryName,
		base.WorkflowRunID, base.JobDisplayName, base.EventName, strings.Join(base.RequestLabels, ","))
}

// hear polls once, says what came, takes it off the queue and claims what is offered.
func hear(ctx context.Context, session *scaleset.MessageSessionClient, last *int, capacity int) {
	message := must(session.GetMessage(ctx, *last, capacity))("poll")
	if message == nil {
		saw("nothing")
		return
	}
	*last = message.MessageID
	saw("message %d %s", message.MessageID, counts(message.Statistics))
	var offered []int64
	for _, one := range message.JobAvailableMessages {
		saw("%s", job(one.JobMessageBase))
		offered = append(offered, one.RunnerRequestID)
	}
	for _, one := range message.JobAssignedMessages {
		saw("%s", job(one.JobMessageBase))
	}
	for _, one := range message.JobStartedMessages {
		saw("%s on %s", job(one.JobMessageBase), one.RunnerName)
	}
	for _, one := range message.JobCompletedMessages {
		saw("%s on %s: %s", job(one.JobMessageBase), one.RunnerName, one.Result)
	}
	if len(offered) > 0 {
		acquired := must(session.AcquireJobs(ctx, offered))("claim")
		expect(len(acquired) == len(offered), "claim all")
	}
	must(true, session.DeleteMessage(ctx, message.MessageID))("acknowledge")
}

func main() {
	configURL, token, mode := os.Args[1], os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := must(scaleset.NewClientWithPersonalAccessToken(scaleset.NewClientWithPersonalAccessTokenConfig{
		GitHubConfigURL:     configURL,
		PersonalAccessToken: token,
		SystemInfo:          scaleset.SystemInfo{System: "conformance", Version: "0", Subsystem: "test"},
	}, scaleset.WithRetryMax(1)))("client")

	absent := must(client.GetRunnerScaleSet(ctx, 1, setName))("find")
	expect(absent == nil, "there is no set yet")
	set := must(client.CreateRunnerScaleSet(ctx, &scaleset.RunnerScaleSet{
		Name: setName, RunnerGroupID: 1, Labels: []scaleset.Label{{Name: "nix"}, {Name: "big"}},
		RunnerSetting: scaleset.RunnerSetting{DisableUpdate: true},
	}))("create")
	names := make([]string, len(set.Labels))
	for index, label := range set.Labels {
		names[index] = label.Name
	}
	saw("set %d labels %s self-update %v", set.ID, strings.Join(names, ","), !set.RunnerSetting.DisableUpdate)
	found := must(client.GetRunnerScaleSet(ctx, 1, setName))("find again")
	saw("found %d", found.ID)

	session := must(client.MessageSessionClient(ctx, set.ID, "conformance"))("session")
	saw("session %s", counts(session.Session().Statistics))
	_, err := client.MessageSessionClient(ctx, set.ID, "somebody else")
	expect(err != nil, "a second session is refused")
	saw("a second session is refused")

	last := 0
	do("queue")
	hear(ctx, session, &last, 0)
	hear(ctx, session, &last, 2)
	if mode == "acquire" {
		hear(ctx, session, &last, 2)
	}
	jit := must(client.GenerateJitRunnerConfig(ctx,
		&scaleset.RunnerScaleSetJitRunnerSetting{Name: runnerName, WorkFolder: "_work"}, set.ID))("mint")
	saw("minted %d", jit.Runner.ID)
	do("start " + jit.EncodedJITConfig)
	hear(ctx, session, &last, 2)
	agent := must(client.GetRunnerByName(ctx, runnerName))("find runner")
	saw("runner %d of set %d", agent.ID, agent.RunnerScaleSetID)
	err = client.RemoveRunner(ctx, int64(agent.ID))
	expect(errors.Is(err, scaleset.JobStillRunningError), "a busy runner is kept")
	saw("a busy runner is kept")
	_, err = client.GenerateJitRunnerConfig(ctx,
		&scaleset.RunnerScaleSetJitRunnerSetting{Name: runnerName, WorkFolder: "_work"}, set.ID)
	expect(errors.Is(err, scaleset.RunnerExistsError), "a name is taken")
	saw("a name is taken")
	do("finish")
	hear(ctx, session, &last, 2)
	hear(ctx, session, &last, 2)
	must(true, session.Close(ctx))("close")
	saw("closed")

	do("compare")
	must(true, client.DeleteRunnerScaleSet(ctx, set.ID))("delete")
	gone := must(client.GetRunnerScaleSet(ctx, 1, setName))("find deleted")
	expect(gone == nil, "the set is gone")
}
