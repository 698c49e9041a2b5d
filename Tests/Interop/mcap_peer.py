"""Opens a trial log with the official mcap package and decodes every message by the schema inside the file."""

import sys

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

with open(sys.argv[1], "rb") as stream:
    reader = make_reader(stream, decoder_factories=[DecoderFactory()], validate_crcs=True)
    summary = reader.get_summary()
    messages, steps, tasks = 0, 0, []
    for _schema, _channel, _message, event in reader.iter_decoded_messages(log_time_order=False):
        messages += 1
        steps += len(event.steps.steps)
        if event.WhichOneof("event") == "header":
            tasks.append(event.header.task)
    assert summary.statistics.message_count == messages, (summary.statistics.message_count, messages)
    print(f"messages {messages} steps {steps} tasks {','.join(tasks)} chunks {summary.statistics.chunk_count}")
