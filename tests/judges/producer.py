"""Uses a server as a careful producer would, with stock pyarrow: idempotent retries, conditional appends, and what a refusal says.

usage: producer.py grpc://127.0.0.1:8815 TOPIC
The topic has a key `k` and a number `n`.
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64())])


def batch(*rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"k": key, "n": number} for key, number in rows], SCHEMA)


def append(client, descriptor: dict, *said) -> list:
    """Appends batches, each with what is said of it; the answers."""
    command = flight.FlightDescriptor.for_command(json.dumps({"append": descriptor}))
    writer, answers = client.do_put(command, SCHEMA)
    with writer:
        for rows, terms in said:
            writer.write_with_metadata(rows, json.dumps(terms).encode())
        writer.done_writing()
        return [json.loads(answers.read().to_pybytes()) for _ in said]


def facts(error: flight.FlightError) -> dict:
    """What a refusal says to programs: the JSON at the end of its details."""
    return json.loads(error.extra_info[error.extra_info.rindex(b'{"kind":') :])


def refused(client, descriptor: dict, *said) -> dict:
    try:
        answers = append(client, descriptor, *said)
    except flight.FlightError as error:
        return facts(error)
    raise AssertionError(f"appended all the same: {answers}")


def main() -> None:
    server, topic = sys.argv[1:]
    verdict = {}
    with flight.connect(server) as client:
        action = flight.Action("producer", json.dumps({"producer": "judge", "topic": topic}).encode())
        begun = json.loads(next(client.do_action(action)).body.to_pybytes())
        verdict["begun"] = begun
        me = {"topic": topic, "producer": "judge", "producer_epoch": begun["producer_epoch"]}
        first, second = (batch(("a", 1), ("b", 2)), {"producer_seq": 1}), (batch(("a", 3)), {"producer_seq": 2})
        verdict["answers"] = append(client, me, first, second)
        verdict["again"] = append(client, me, first, second)
        verdict["gap"] = refused(client, me, (batch(("a", 9)), {"producer_seq": 7}))
        verdict["other"] = refused(client, me, (batch(("z", 9)), {"producer_seq": 2}))

        plain, condition = {"topic": topic}, {"conditions": [{"key": "a", "expected_last_seq": 1}]}
        verdict["condition"] = refused(client, plain, (batch(("a", 4)), condition))
        now = {"conditions": [{"key": "a", "expected_last_seq": verdict["condition"]["last_seq"]}]}
        verdict["decided_again"] = append(client, plain, (batch(("a", 4)), now))
        answering = plain | {"on_condition": "answer"}
        new = {"conditions": [{"key": "c", "expected_last_seq": 0}]}
        verdict["pipelined"] = append(client, answering, (batch(("c", 5)), new), (batch(("c", 6)), new), (batch(("d", 7)), {}))
    print(json.dumps(verdict))


main()
