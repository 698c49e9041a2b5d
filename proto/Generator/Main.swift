import CPlugin
import CProtobufC
import Foundation

/// `protoc-gen-fleetloop`: a protoc plugin that writes Swift value types over protobuf-c, and gRPC stubs.
///
/// protoc hands it a CodeGeneratorRequest on standard input and takes a CodeGeneratorResponse from standard output.
@main
struct Main {
  static func main() throws {
    let input = try FileHandle.standardInput.readToEnd() ?? Data()
    let request = input.withUnsafeBytes { bytes in
      google__protobuf__compiler__code_generator_request__unpack(
        nil, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
    guard let request else {
      FileHandle.standardError.write(Data("protoc-gen-fleetloop: not a CodeGeneratorRequest\n".utf8))
      exit(1)
    }
    defer { google__protobuf__compiler__code_generator_request__free_unpacked(request, nil) }
    let response: Response
    do {
      let model = try SchemaModel(request)
      response = Response(files: try Output.files(for: model), error: nil)
    } catch {
      response = Response(files: [], error: "\(error)")
    }
    try FileHandle.standardOutput.write(contentsOf: response.serialized())
  }
}

/// A file that the plugin writes.
struct OutputFile {
  var name: String
  var content: String
}

/// What goes back to protoc.
struct Response {
  var files: [OutputFile]
  var error: String?

  /// A CodeGeneratorResponse. All C memory lives until the process ends, which is at once.
  func serialized() -> Data {
    var response = Google__Protobuf__Compiler__CodeGeneratorResponse()
    google__protobuf__compiler__code_generator_response__init(&response)
    response.error = self.error.map { strdup($0) } ?? nil
    typealias File = Google__Protobuf__Compiler__CodeGeneratorResponse__File
    let pointers = UnsafeMutablePointer<UnsafeMutablePointer<File>?>.allocate(
      capacity: max(1, self.files.count))
    for (index, file) in self.files.enumerated() {
      let pointer = UnsafeMutablePointer<File>.allocate(capacity: 1)
      google__protobuf__compiler__code_generator_response__file__init(pointer)
      pointer.pointee.name = strdup(file.name)
      pointer.pointee.content = strdup(file.content)
      pointers[index] = pointer
    }
    response.n_file = self.files.count
    response.file = pointers
    var data = Data(count: google__protobuf__compiler__code_generator_response__get_packed_size(&response))
    data.withUnsafeMutableBytes { bytes in
      _ = google__protobuf__compiler__code_generator_response__pack(
        &response, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
    return data
  }
}

/// Every file of one run.
enum Output {
  static func files(for model: SchemaModel) throws -> [OutputFile] {
    var files: [OutputFile] = []
    for file in model.files {
      let stem = file.name.split(separator: "/").last?.replacing(".proto", with: "") ?? Substring(file.name)
      files.append(
        OutputFile(name: "\(stem).pb.swift", content: MessageFileWriter(file: file, model: model).text()))
      if !file.services.isEmpty {
        files.append(
          OutputFile(name: "\(stem).grpc.swift", content: try StubWriter(file: file, model: model).text()))
      }
    }
    files.append(OutputFile(name: "SchemaRegistry.swift", content: RegistryWriter(model: model).text()))
    return files
  }
}
